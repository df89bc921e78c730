// Follows experiments live, on a thread of its own: whoever hands over how they stand is never kept waiting, and a sink
// that is slow or away disturbs no stage.
#pragma once

#include <memory>
#include <vector>

#include "scheduler/tracking/runs.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// Thread-safe.
class Tracking {
 public:
  // `linger_s`: the destructor waits at most so long for what is left to tell. What it leaves, the next process tells,
  // or `filo track`.
  explicit Tracking(const Workspace& workspace, double linger_s = 10);
  Tracking(const Tracking&) = delete;
  Tracking& operator=(const Tracking&) = delete;
  ~Tracking();

  // How a plan stands now: `states` has one for each of its trials. Told are the sinks that its experiment names
  // (planned_tracking()).
  void update(std::shared_ptr<const Plan> plan, std::vector<RunState> states);

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the thread, which may outlive this while a name is looked up
  double linger_s_;
};

}  // namespace filo
