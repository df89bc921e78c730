// One pass from what is to what should be (DESIGN section 6).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/failpoints.hpp"
#include "scheduler/executors/executor.hpp"
#include "scheduler/plan/plan.hpp"
#include "workspace/index/stage_index.hpp"
#include "workspace/stage_record.hpp"
#include "workspace/workspace.hpp"

namespace filo {

enum class StageState {
  waiting,  // for its inputs
  queued,   // ready, no room yet; or handed to the executor, not running yet
  running,
  done,
  failed,     // often enough not to be tried again
  blocked,    // needs one that is failed, stopped or cancelled
  stopped,    // by a search: its snapshot and its last metrics stay, it is not started again
  cancelled,  // by somebody; until `filo retry`
};
std::string to_string(StageState state);

struct StageStatus {
  std::string key;
  StageState state = StageState::waiting;
  int attempt = 0;         // the newest, 0 = none
  AttemptCounts counts{};  // against the stage's limits
  std::string reason{};    // why it failed, is blocked, was requeued, stopped or cancelled, or who else runs it
  std::string where{};     // of a job that is queued or running: "Slurm job 12_3 on n1"
  double seconds = 0;      // that it took, when done
};

// At most `limit` of the stages that share it run (or are queued at an executor) at once.
struct ConcurrencyLimit {
  int limit = 0;
};

// A stage, and who is to run it.
struct StageAssignment {
  const PlannedStage* stage = nullptr;
  Executor* executor = nullptr;                   // one of those given to reconcile(); null: it is not started
  const ConcurrencyLimit* concurrency = nullptr;  // null: none
};

struct ReconcileOptions {
  bool start_new = true;        // false: only record what ended
  StageIndex* index = nullptr;  // null: every stage's folder is read
  // Called at each of `failpoints`. For tests.
  std::function<void(std::string_view name)> at_point = pass_failpoint;
};

// What a pass did, for people: {KEY, "started attempt 2"}.
struct PassAction {
  std::string stage;
  std::string text;
};

struct PassResult {
  std::vector<StageStatus> statuses;  // in the assignments' order
  std::vector<PassAction> actions;
  std::vector<std::string> troubles;  // executors that could not be asked: what is theirs was left as it is
};

// Reads the stages' folders, asks each executor for its jobs once, acts on requests, records what ended, requeues what
// was stopped or lost, starts what is ready in one batch per executor. Idempotent: a second pass right after changes
// nothing; killed anywhere, the next pass goes on from the files. Several processes may reconcile one workspace: passes
// exclude each other (Workspace::lock), and an attempt that another process runs is left alone. Success is a valid
// result.json of the newest attempt, never an exit code. Inputs come before what needs them in `assignments`.
PassResult reconcile(const Workspace& workspace, const std::vector<StageAssignment>& assignments,
                     const std::vector<Executor*>& executors, const ReconcileOptions& options);

// One plan on one executor.
std::vector<StageStatus> reconcile(const Workspace& workspace, const Plan& plan, Executor& executor,
                                   const ReconcileOptions& options);

// The states by the files alone, for `filo status`, from any machine: what has a claim that holds (claim_holds) runs.
std::vector<StageStatus> observe(const Workspace& workspace, const Plan& plan, StageIndex* index = nullptr);

// Every stage that is not done is tried again (Workspace::retry), but for what the plan's own search has stopped.
void retry_all(const Workspace& workspace, const Plan& plan);

bool all_done(const std::vector<StageStatus>& statuses);
bool is_settled(StageState state);  // nothing left to wait for: done, failed, blocked, stopped or cancelled
bool is_settled(const std::vector<StageStatus>& statuses);  // every one is

}  // namespace filo
