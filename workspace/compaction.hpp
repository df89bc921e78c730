// Logs and events of attempts that ended, made smaller, so that a workspace does not grow for ever.
//
// A file is replaced whole (base/files.hpp). Who follows it goes on: an EventReader finds its place in the new file,
// and an open descriptor reads the former one to its end. So does a process that lives on although its attempt was
// given up: what it still writes goes into the former file, which nobody sees any more (and fails where a file server
// has let go of that file); what stands here stays whole.
#pragma once

#include <cstdint>
#include <string>

#include "workspace/workspace.hpp"

namespace filo {

// Bytes.
struct CompactionLimits {
  std::uint64_t untouched = 4 << 20;  // a file up to this stays as it is
  std::uint64_t log_begin = 1 << 20;  // what a log keeps
  std::uint64_t log_end = 3 << 20;
  std::uint64_t events = 2 << 20;  // what events.jsonl comes to, about
};

// log.txt keeps its begin and its end, whole lines, with a line between that says how much was left out. The attempt
// has ended. Returns whether anything was done. Throws Error when the file cannot be read or written: it is as it was
// then.
bool compact_log(const Workspace& workspace, const std::string& key, int attempt, const CompactionLimits& limits = {});

// events.jsonl of all the stage's attempts, when one of them is too large: of the `step` events those stay whose step
// is a multiple of one number, and the first and the last of each epoch; every other line stays, each as it was
// written. The number is one for the whole stage, so that what was told twice (workspace/events.hpp) stays in both
// attempts, or in none. The stage is done. Returns and throws as compact_log().
bool compact_events(const Workspace& workspace, const std::string& key, const CompactionLimits& limits = {});

}  // namespace filo
