// One pass from what is to what should be.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/failpoints.hpp"
#include "scheduler/control/stage_state.hpp"
#include "scheduler/executors/executor.hpp"
#include "scheduler/plan/plan.hpp"
#include "workspace/index/stage_index.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// At most `limit` of the stages that share it run (or are queued at an executor) at once.
struct ConcurrencyLimit {
  int limit = 0;
};

// A stage, and who is to run it.
struct StageAssignment {
  const PlannedStage* stage = nullptr;
  Executor* executor = nullptr;                   // one of those given to reconcile(); null: it is not started
  const ConcurrencyLimit* concurrency = nullptr;  // null: none
  bool keeps_steps = false;                       // all that it told of single steps: a search decides by them
  std::string_view experiment{};                  // on whose behalf, for the manifest of what it leaves
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
// over one executor exclude each other (Executor::lock), their decisions too (Workspace::lock), and an attempt that
// another process runs is left alone. What an attempt that ended has left of logs and events is made smaller
// (workspace/compaction.hpp) when all else is done and no lock is held any more. Success is a valid result.json, never
// an exit code. Inputs come before what needs them in `assignments`.
PassResult reconcile(const Workspace& workspace, const std::vector<StageAssignment>& assignments,
                     const std::vector<Executor*>& executors, const ReconcileOptions& options);

// One plan on one executor.
std::vector<StageStatus> reconcile(const Workspace& workspace, const Plan& plan, Executor& executor,
                                   const ReconcileOptions& options);

}  // namespace filo
