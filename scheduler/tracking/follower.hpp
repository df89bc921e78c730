// Follows what a run tells: the events of its training, attempt after attempt, and the numbers of its evaluation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/tracking/runs.hpp"
#include "workspace/events.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// Up to where a run was told.
struct RunPosition {
  int attempt = 0;             // at the training, from 1
  std::int64_t sequence = -1;  // the last event of it
  std::int64_t step = 0;       // of the training, the last one
  bool result = false;         // the evaluation's numbers too
  double time = 0;             // of the last of these, seconds since 1970
  friend bool operator==(const RunPosition&, const RunPosition&) = default;
};
Json to_json(const RunPosition& position);
RunPosition run_position_from_json(const Json& json);  // throws Json::exception

struct RunPoint {
  std::string name;       // "main/loss", "main/losses/focal", "main/epoch/loss", "test/image_auroc", "test/CLASS/aupro"
  double value = 0;       // finite
  std::int64_t step = 0;  // of the training, over its phases; of an epoch and of the evaluation, the last one before it
  double time = 0;        // seconds since 1970
};

struct RunBatch {
  // The training went on from before: what was told of this step and later ones is told again, from here on, and the
  // later numbers are the run's (workspace/events.hpp has the rule).
  std::optional<std::int64_t> restart;
  double restart_time = 0;
  std::vector<RunPoint> points;  // after the restart
  RunPosition after;
  bool says_something() const { return restart || !points.empty(); }
};

// Not thread-safe.
class RunFollower {
 public:
  // Goes on after `position`. The workspace must outlive it.
  RunFollower(const Workspace& workspace, const TrackedRun& run, const RunPosition& position);

  // What comes next, about `most_points` of it; unset: nothing new. What is in a batch depends on the files and on
  // where it begins alone, but for where it ends.
  std::optional<RunBatch> next(const RunState& state, std::size_t most_points);

 private:
  bool refill(const RunState& state, RunPosition& position);
  void add_result(RunBatch& batch) const;

  const Workspace& workspace_;
  std::string train_, evaluate_;
  RunPosition position_;
  EventReader reader_;
  std::deque<Json> pending_;
};

}  // namespace filo
