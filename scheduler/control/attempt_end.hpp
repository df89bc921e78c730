// What the end of an attempt means for its stage (docs/decisions/011-rules-for-ends.md).
#pragma once

#include "scheduler/executors/executor.hpp"
#include "scheduler/plan/plan.hpp"
#include "workspace/stage_record.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// Of an attempt whose job has ended: outcome, cause, and a reason for people (the worker's own, where it told one).
AttemptOutcome end_of(const Workspace& workspace, const PlannedStage& stage, const StageRecord& record,
                      const Executor& executor, const Job& job);

// What the stage's next attempt gets: more than the last, where that ran out of time or memory.
ResourceSettings resources_of_next(const Executor& executor, const PlannedStage& stage, const AttemptCounts& counts);

}  // namespace filo
