// One pass from what is to what should be (DESIGN section 6).
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "scheduler/executor.hpp"
#include "scheduler/plan.hpp"
#include "scheduler/workspace.hpp"

namespace filo {

enum class StageState {
  waiting,  // for its inputs
  queued,   // ready, no room yet
  running,
  done,
  failed,   // often enough not to be tried again
  blocked,  // needs a failed one
};
std::string to_string(StageState state);

struct StageStatus {
  std::string key;
  StageState state = StageState::waiting;
  int attempt = 0;       // the newest, 0 = none
  int failures = 0;      // that count against the limit
  std::string reason{};  // why it failed, is blocked, was requeued, or who else runs it
};

struct ReconcileOptions {
  int failure_limit = 3;
  int requeue_limit = 50;  // attempts that were stopped or lost, not failed: a loop that never ends is a failure too
  bool start_new = true;   // false: only record what ended
  std::map<std::string, int>
      forgiven;  // stage -> attempts up to this number do not count (a new `filo run` tries again)
  // Called at each point where a kill must lose nothing: "attempt made", "claimed", "started", "ended". For tests.
  std::function<void(const std::string& point)> at_point = [](const std::string&) {};
};

// Reads the run folders, asks the executor for its jobs once, records what ended, requeues what was stopped or lost,
// starts what is ready. Idempotent: a second pass right after changes nothing; killed anywhere, the next pass goes on
// from the files. Two processes may reconcile one workspace: passes exclude each other (Workspace::lock), and an
// attempt that another process runs is left alone. Success is a valid result.json of the newest attempt, never an exit
// code. Returns the state of each stage, in the plan's order.
std::vector<StageStatus> reconcile(const Workspace& workspace, const Plan& plan, Executor& executor,
                                   const ReconcileOptions& options);

// The states by the files alone: for `filo status`, from any machine. `executor` only judges whether claims still hold.
std::vector<StageStatus> observe(const Workspace& workspace, const Plan& plan, const Executor& executor);

// forgiven = all attempts so far.
std::map<std::string, int> forgive_all(const Workspace& workspace, const Plan& plan);

bool all_done(const std::vector<StageStatus>& statuses);
bool is_settled(
    const std::vector<StageStatus>& statuses);  // every stage done, failed or blocked: nothing left to wait for

}  // namespace filo
