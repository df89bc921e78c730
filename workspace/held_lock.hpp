// A lock that one process of all hosts holds, and says so: whoever waits tells its user for whom.
#pragma once

#include <filesystem>

#include "base/files.hpp"

namespace filo {

// Blocks until the file's lock (flock) is free. After two seconds it says on the log who holds it and since when; the
// file says that. Released when the descriptor closes. Throws Error where the file cannot be made or locked.
FileDescriptor held_lock(const std::filesystem::path& path);

}  // namespace filo
