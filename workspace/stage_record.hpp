// What the files of one stage say, boiled down to what decides its state.
#pragma once

#include <optional>
#include <string>

#include "settings/resources.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// What the attempts since the last retry came to, to be held against ResourceSettings::attempts.
struct AttemptCounts {
  int failures = 0;
  int requeues = 0;
  int timeouts = 0;
  int out_of_memory = 0;
};

struct StageRecord {
  int attempt = 0;         // the newest, 0 = none
  bool done = false;       // a valid result.json of the newest attempt
  double seconds = 0;      // that it took, when done
  bool ended = false;      // the newest attempt's end.json is there
  bool retried = false;    // the newest attempt no longer counts
  bool cancelled = false;  // the newest attempt counts, and was cancelled
  AttemptCounts counts;
  std::string last_failure;  // reason of the newest attempt that counts in `counts` other than as a requeue
  std::string last_reason;   // reason of the newest attempt that has ended
  std::optional<StageRequest> request;
};

StageRecord read_stage_record(const Workspace& workspace, const std::string& key, StageKind kind);

// Why the stage is given up, "" while it is not: "failed 3 of 3 times: exit code 1".
std::string given_up(const StageRecord& record, const AttemptLimits& limits);

// What of the limits is used up, "" when nothing: "failed 2 of 3 times, requeued 1 of 50 times".
std::string limits_used(const AttemptCounts& counts, const AttemptLimits& limits);

}  // namespace filo
