// What `filo run` shows while stages run.
#pragma once

#include <chrono>
#include <iosfwd>
#include <map>
#include <string>
#include <vector>

#include "scheduler/control/reconcile.hpp"
#include "scheduler/control/stage_meter.hpp"
#include "workspace/events.hpp"

namespace filo {

// Prints a line when a stage starts, ends, fails or is requeued, and follows the running stages' events: on a terminal
// as a bar for each of them below those lines, else as lines at most every two seconds a stage. Not thread-safe.
class RunProgress {
 public:
  RunProgress(const Workspace& workspace, const Plan& plan, std::ostream& out, bool terminal);
  ~RunProgress();  // clears the bars
  void update(const std::vector<StageStatus>& statuses);
  void line(const std::string& text);  // one of its own

 private:
  struct Seen {
    int attempt = 0;
    StageState state = StageState::waiting;
    std::vector<EventReader> reader;  // none or one: of the running attempt
    StageMeter meter{};
    std::chrono::steady_clock::time_point printed{};
  };

  void print_change(const PlannedStage& stage, const StageStatus& status, Seen& seen);
  void print_end(const PlannedStage& stage, int attempt);
  void follow(const PlannedStage& stage, Seen& seen);
  void draw_bars();
  void clear_bars();

  const Workspace& workspace_;
  const Plan& plan_;
  std::ostream& out_;
  bool terminal_;
  std::string bars_;  // as they stand on the terminal, the cursor at their beginning
  std::size_t done_ = 0;
  std::map<std::string, Seen> seen_;
};

}  // namespace filo
