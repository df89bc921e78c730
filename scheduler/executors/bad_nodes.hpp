// Nodes of a cluster that a workspace's jobs keep away from, and the check that finds some of them before the worker
// starts. WORKSPACE/slurm/bad-nodes-CLUSTER.json holds them; a person may edit or remove it.
//
// Every stage keeps away from a node that failed its health check or took an attempt's GPU away. Where an attempt just
// failed soon after its start, or hung, the stage or the node may be the cause: its stage alone keeps away from it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "scheduler/executors/executor.hpp"
#include "settings/cluster.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// What a batch script exits with on a node that is not fit for work (EX_UNAVAILABLE of sysexits.h). The worker never
// does.
inline constexpr int unhealthy_node_exit = 69;

// Bash for the batch script, after its start and the site's preamble: `refuse_node WHY` where the workspace cannot be
// written, the clock is ten minutes off, less than three quarters of the memory that the stage asks for is free, or
// nvidia-smi shows too few GPUs.
std::string health_check(const ClusterSettings& settings, const ResourceSettings& resources);

struct BadNode {
  std::string node;
  std::string stage;  // key of the one stage that keeps away from it; "": all do
  std::string why;    // one line
  double since = 0;   // seconds since 1970, by the clock of the workspace's files
};

// What the end of a job says of its node; unset: nothing. `since` is left 0.
std::optional<BadNode> judged(const Job& job, const AttemptOutcome& end, const BadNodeSettings& settings);

// Those of the cluster that have not expired, the latest last. A file that cannot be read holds none, with a warning.
std::vector<BadNode> bad_nodes(const Workspace& workspace, const ClusterSettings& settings);

// Adds one, durably; an older entry of the same node and stage goes. Called by who holds Executor::lock().
void add_bad_node(const Workspace& workspace, const ClusterSettings& settings, BadNode bad);

// What an attempt of the stage keeps away from: at most `most` nodes, the latest, sorted.
std::vector<std::string> nodes_to_avoid(const std::vector<BadNode>& bad, const std::string& stage, std::size_t most);

std::string keeping_away(const BadNode& bad);  // for people: "all stages keep away from n3"

// For people: "keeps away from n3 until 14:05 (no GPU is visible)", one line for each node that all stages, or one,
// keep away from.
std::vector<std::string> describe(const std::vector<BadNode>& bad, const BadNodeSettings& settings);

}  // namespace filo
