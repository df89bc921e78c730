// What a batch of stages is made of: the record that survives the coordinator, the script that runs on the node, the
// arguments of sbatch. No value of a YAML reaches a shell unquoted: sbatch gets its arguments without a shell, and the
// script holds them in single quotes (but the cluster file's `prologue`, which is bash by its purpose).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "settings/cluster.hpp"
#include "settings/resources.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// Stages of one shape (the same resources), submitted together: one job array, or one job. The record is
// WORKSPACE/slurm/batches/NAME.json, written before sbatch; NAME is the job's name and found nowhere else, so that a
// job that was submitted but not recorded is found again.
struct SlurmBatch {
  enum class State {
    prepared,    // sbatch was not called yet
    submitting,  // it was, at `since`; what came of it is not known
    submitted    // the job's id is known
  };
  struct Entry {
    std::string stage;
    int attempt = 0;
    StageKind kind = StageKind::features;
    std::vector<std::string> inputs{};  // keys of stages
    bool dropped = false;               // cancelled before it was submitted
  };

  std::string name;
  std::string cluster;
  std::string folder;  // where the jobs start: relative paths in specs are taken from there
  ResourceSettings resources;
  std::vector<Entry> entries;  // by array index
  State state = State::prepared;
  double since = 0;        // seconds since 1970
  long job_id = 0;         // when submitted
  double released_at = 0;  // seconds since 1970, when submitted; 0: it is held
  bool released = false;   // and it was seen to be, later than a controller that is killed could have forgotten it
  std::vector<std::string> exclude{};  // nodes to keep away from (scheduler/executors/bad_nodes.hpp)
  std::string message;                 // why it is not in the queue yet
};

Json to_json(const SlurmBatch& batch);
// Throws Error naming `where` when a field is missing or of the wrong type.
SlurmBatch slurm_batch_from_json(const Json& json, const std::string& where);

// The batch script. `worker`: filo-worker's path on the nodes.
std::string slurm_script(const SlurmBatch& batch, const ClusterSettings& settings, const Workspace& workspace,
                         const std::string& worker);

// What of these a job may ask for: at most max_time and max_memory.
ResourceSettings within_limits(ResourceSettings wanted, const ClusterSettings& settings);

// sbatch's arguments, `script` last. Entries that were dropped are left out.
std::vector<std::string> slurm_arguments(const SlurmBatch& batch, const ClusterSettings& settings,
                                         const Workspace& workspace, const std::filesystem::path& script);

// Options that every job of a cluster file gets: partition, account, ...
std::vector<std::string> slurm_site_options(const ClusterSettings& settings);

}  // namespace filo
