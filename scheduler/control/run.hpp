// `filo run`: reconcile in a loop in the foreground, and tell what happens.
#pragma once

#include <chrono>
#include <functional>
#include <iosfwd>
#include <map>
#include <string>
#include <vector>

#include "scheduler/control/coordinator.hpp"
#include "scheduler/control/reconcile.hpp"
#include "scheduler/executors/local_executor.hpp"
#include "workspace/events.hpp"

namespace filo {

// Prints a line when a stage starts, ends, fails or is requeued, and follows the running stages' events: on a terminal
// as one live line, else as lines at most every two seconds a stage. Not thread-safe.
class RunProgress {
 public:
  RunProgress(const Workspace& workspace, const Plan& plan, std::ostream& out, bool terminal);
  ~RunProgress();  // clears the live line
  void update(const std::vector<StageStatus>& statuses);

 private:
  struct Seen {
    int attempt = 0;
    StageState state = StageState::waiting;
    std::vector<EventReader> reader;  // none or one: of the running attempt
    std::string latest;               // "epoch 2 step 3/8 loss 0.41"
    std::chrono::steady_clock::time_point printed{};
  };

  void tell_change(const PlannedStage& stage, const StageStatus& status, Seen& seen);
  void tell_end(const PlannedStage& stage, int attempt);
  void follow(const PlannedStage& stage, Seen& seen);
  void line(const std::string& text);
  void live_line();

  const Workspace& workspace_;
  const Plan& plan_;
  std::ostream& out_;
  bool terminal_;
  bool live_ = false;
  std::size_t done_ = 0;
  std::map<std::string, Seen> seen_;
};

struct RunOptions {
  std::function<bool()> stop = [] {
    return false;
  };                     // asked for often; true once: stages write snapshots and the run ends
  double grace_s = 120;  // for those snapshots
  CoordinatorOptions coordinator{};
};

// Returns when every stage is done, failed or blocked, stopped or cancelled, or after a stop. Failures of earlier runs
// are forgiven.
std::vector<StageStatus> run_plan(const Workspace& workspace, const Plan& plan, LocalExecutor& executor,
                                  RunProgress& progress, const RunOptions& options);

}  // namespace filo
