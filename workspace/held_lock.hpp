// A lock that one process of all hosts holds, and says so: whoever waits tells its user for whom.
#pragma once

#include <filesystem>
#include <string>

#include "base/files.hpp"

namespace filo {

// Blocks until the file's lock (flock) is free. After two seconds it says on the log who holds it and since when; the
// file says that. Released when the descriptor closes. Throws Error where the file cannot be made or locked.
FileDescriptor held_lock(const std::filesystem::path& path);

// The same at once or not at all: who holds it otherwise, for people.
struct LockAttempt {
  FileDescriptor lock;  // valid where it is ours
  std::string holder;   // "held for 12 s by process 4711 on node-1 (filo serve)"
};
LockAttempt try_held_lock(const std::filesystem::path& path);

}  // namespace filo
