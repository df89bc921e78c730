// Where active experiments run, for the commands that look after them.
#pragma once

#include "base/error.hpp"
#include "scheduler/control/coordinator.hpp"
#include "scheduler/executors/local_executor.hpp"
#include "scheduler/executors/slurm_executor.hpp"

namespace filo {

// `start_local` false: local stages are children of the process that starts them, so that a command that ends soon
// leaves them to others.
inline ExecutorFactory executor_factory(const Workspace& workspace, bool start_local) {
  return [workspace, start_local](const ActiveExperiment& experiment) -> std::unique_ptr<Executor> {
    if (experiment.executor == "local")
      return start_local ? std::make_unique<LocalExecutor>(workspace, find_worker()) : nullptr;
    if (experiment.executor == "slurm") return make_slurm_executor(workspace, experiment.cluster);
    throw Error("scheduler: " + workspace.active_file(experiment.name).string() + ": executor",
                "found " + experiment.executor + ", expected local or slurm");
  };
}

}  // namespace filo
