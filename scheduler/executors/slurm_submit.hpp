// `filo submit`: what would be sent to a cluster, and the job that goes on when the one who submitted has left.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "scheduler/executors/slurm_commands.hpp"
#include "scheduler/plan/plan.hpp"
#include "settings/cluster.hpp"

namespace filo {

// Everything that submitting `plan` would send, without sending or writing anything: {"batches": [{"when": "now" |
// "when its inputs are done", "stages": [...], "command": [...], "script": "..."}], "watch": {"command", "script"} or
// null}. Names of jobs and numbers of attempts are those that would come next.
Json slurm_preview(const Workspace& workspace, const Plan& plan, const ClusterSettings& settings,
                   const std::string& worker, const std::filesystem::path& filo);

// The watch: one small job a workspace and cluster that runs `filo reconcile` every settings.watch_interval_s and ends
// when nothing is left to do. Its successor waits in the queue behind it (--dependency=singleton), so that its time
// limit, its node's failure or a kill is no end. Each call sends one more; those that find nothing to do end at once.
// Returns the job's id; throws Error when sbatch fails.
std::string submit_watch(const Workspace& workspace, const ClusterSettings& settings, const std::filesystem::path& filo,
                         const std::string& worker, SlurmCommands& commands);

// The name of its jobs, the same for all of a workspace on a cluster.
std::string watch_name(const Workspace& workspace, const ClusterSettings& settings);

std::string watch_script(const Workspace& workspace, const ClusterSettings& settings, const std::filesystem::path& filo,
                         const std::string& worker);
std::vector<std::string> watch_arguments(const Workspace& workspace, const ClusterSettings& settings);

}  // namespace filo
