// Where everything in a workspace lies: each path once, for both programs. Pure functions of the root; nothing is
// looked at and nothing is made.
#pragma once

#include <filesystem>
#include <string>
#include <utility>

namespace filo {

// What stages leave behind, under the names that result.json lists it by. A folder has the same name.
namespace artifact_name {
inline constexpr const char* checkpoint = "checkpoint";  // of a training: a folder, see workspace/checkpoint_files.hpp
inline constexpr const char* bundle = "bundle";          // of an export: a checkpoint with the weights it needs
inline constexpr const char* heat_maps = "heat_maps";    // of an evaluation: CLASS/IMAGE.png
inline constexpr const char* interpretations = "interpretations";  // likewise; lies in interpretations.json
inline constexpr const char* boxes = "boxes";                      // of a boxes stage; lies in boxes.json
}  // namespace artifact_name

// The features of one data set, which a features stage writes and trainings and evaluations read: shard-NNNNN.h5, and
// the list of them, written last.
inline std::filesystem::path features_manifest(const std::filesystem::path& features_folder) {
  return features_folder / "manifest.json";
}

class WorkspaceLayout {
 public:
  explicit WorkspaceLayout(std::filesystem::path root) : root_(std::move(root)) {}
  const std::filesystem::path& root() const { return root_; }

  // Data sets.
  std::filesystem::path datasets_folder() const { return root_ / "datasets"; }
  std::filesystem::path dataset_file(const std::string& name) const { return datasets_folder() / (name + ".json"); }

  // Experiments.
  std::filesystem::path experiments_folder() const { return root_ / "experiments"; }
  std::filesystem::path experiment_folder(const std::string& name) const { return experiments_folder() / name; }
  std::filesystem::path plan_file(const std::string& name) const { return experiment_folder(name) / "plan.json"; }
  std::filesystem::path active_file(const std::string& name) const { return experiment_folder(name) / "active.json"; }
  // A file for each `filo run` that looks after it just now (workspace/run_file.hpp).
  std::filesystem::path runs_folder(const std::string& name) const { return experiment_folder(name) / "runs"; }
  std::filesystem::path report_folder(const std::string& name) const { return experiment_folder(name) / "report"; }
  // What was told to `tool` ("tensorboard", "mlflow-0f3a9c21"), beside the lock of who tells it.
  std::filesystem::path tracking_file(const std::string& name, const std::string& tool) const {
    return experiment_folder(name) / "tracking" / (tool + ".json");
  }
  // A folder with event files for each run, which is what TensorBoard is started on.
  std::filesystem::path tensorboard_folder(const std::string& name) const {
    return experiment_folder(name) / "tensorboard";
  }

  // A stage, by its key.
  std::filesystem::path stages_folder() const { return root_ / "stages"; }
  std::filesystem::path stage_folder(const std::string& key) const { return stages_folder() / key; }
  std::filesystem::path spec_file(const std::string& key) const { return stage_folder(key) / "spec.json"; }
  std::filesystem::path result_file(const std::string& key) const { return stage_folder(key) / "result.json"; }
  std::filesystem::path request_file(const std::string& key) const { return stage_folder(key) / "request.json"; }
  std::filesystem::path retry_file(const std::string& key) const { return stage_folder(key) / "retry.json"; }
  std::filesystem::path attempts_folder(const std::string& key) const { return stage_folder(key) / "attempts"; }

  // What it leaves behind.
  std::filesystem::path checkpoint_folder(const std::string& key) const {
    return stage_folder(key) / artifact_name::checkpoint;
  }
  std::filesystem::path bundle_folder(const std::string& key) const {
    return stage_folder(key) / artifact_name::bundle;
  }
  std::filesystem::path heat_maps_folder(const std::string& key) const {
    return stage_folder(key) / artifact_name::heat_maps;
  }
  std::filesystem::path interpretations_file(const std::string& key) const {
    return stage_folder(key) / "interpretations.json";
  }
  std::filesystem::path boxes_file(const std::string& key) const { return stage_folder(key) / "boxes.json"; }
  std::filesystem::path snapshots_folder(const std::string& key) const { return stage_folder(key) / "snapshots"; }
  // What an evaluation has finished of its classes, and a training of what it computes ahead of a phase: kept for the
  // attempt that goes on; gone once it is done.
  std::filesystem::path kept_folder(const std::string& key) const { return stage_folder(key) / "kept"; }
  std::filesystem::path features_folder(const std::string& key) const { return root_ / "features" / key; }
  // Says under which digest the checkpoint was collected (workspace/artifacts.hpp).
  std::filesystem::path collected_file(const std::string& key) const { return stage_folder(key) / "collected.json"; }

  // One attempt at a stage, from 1.
  std::filesystem::path attempt_folder(const std::string& key, int attempt) const {
    return attempts_folder(key) / std::to_string(attempt);
  }
  std::filesystem::path claim_file(const std::string& key, int attempt) const {
    return attempt_folder(key, attempt) / "claim.json";
  }
  std::filesystem::path outcome_file(const std::string& key, int attempt) const {
    return attempt_folder(key, attempt) / "end.json";
  }
  std::filesystem::path log_file(const std::string& key, int attempt) const {
    return attempt_folder(key, attempt) / "log.txt";
  }
  std::filesystem::path events_file(const std::string& key, int attempt) const {
    return attempt_folder(key, attempt) / "events.jsonl";
  }
  // One numbered folder for each start of the attempt's worker: a cluster may start a job again. What the worker makes
  // lies there until it is done: a start that was given up, but lives on, touches nothing of its successor's.
  std::filesystem::path starts_folder(const std::string& key, int attempt) const {
    return attempt_folder(key, attempt) / "starts";
  }
  // Empty; as old as the first sight of an attempt that ended well and has no result.json yet.
  std::filesystem::path awaited_file(const std::string& key, int attempt) const {
    return attempt_folder(key, attempt) / "awaited";
  }
  std::filesystem::path start_folder(const std::string& key, int attempt, int start) const {
    return starts_folder(key, attempt) / std::to_string(start);
  }
  // What a Slurm job's script leaves: "JOBID RESTARTS EXITCODE NODE SECONDS".
  std::filesystem::path exit_file(const std::string& key, int attempt) const {
    return attempt_folder(key, attempt) / "exit.txt";
  }

  // Of the whole workspace.
  std::filesystem::path artifacts_folder() const { return root_ / "artifacts"; }
  std::filesystem::path artifact_folder(const std::string& digest) const { return artifacts_folder() / digest; }
  std::filesystem::path artifact_sums_file(const std::string& digest) const {
    return artifact_folder(digest) / "SHA256SUMS";
  }
  std::filesystem::path manifest_folder(const std::string& digest) const {
    return artifact_folder(digest) / "manifest";  // KEY.json of each stage that made or measured it
  }
  // A file for each name that somebody gave to an artifact (workspace/artifacts.hpp).
  std::filesystem::path tags_folder() const { return root_ / "tags"; }
  std::filesystem::path tag_file(const std::string& name) const { return tags_folder() / (name + ".json"); }
  std::filesystem::path server_file() const { return root_ / "server.json"; }  // of a running `filo serve`
  std::filesystem::path token_file() const { return root_ / "token"; }         // of the server, unless it names another
  std::filesystem::path cache_folder() const { return root_ / "cache"; }       // may go at any time
  std::filesystem::path clock_file(const std::string& host) const { return cache_folder() / ("clock-" + host); }
  std::filesystem::path lock_file() const { return root_ / ".lock"; }

  // What executors keep: a file for each process that runs stages on this machine; records and scripts of Slurm
  // batches.
  std::filesystem::path local_uses_folder() const { return root_ / "local"; }
  std::filesystem::path slurm_folder() const { return root_ / "slurm"; }
  std::filesystem::path slurm_batches_folder() const { return slurm_folder() / "batches"; }
  std::filesystem::path slurm_batch_file(const std::string& batch) const {
    return slurm_batches_folder() / (batch + ".json");
  }
  std::filesystem::path slurm_script_file(const std::string& batch) const {
    return slurm_batches_folder() / (batch + ".sh");
  }
  std::filesystem::path slurm_lock_file(const std::string& cluster) const {
    return slurm_folder() / (".lock-" + cluster);
  }
  // Those that jobs keep away from (scheduler/executors/bad_nodes.hpp).
  std::filesystem::path bad_nodes_file(const std::string& cluster) const {
    return slurm_folder() / ("bad-nodes-" + cluster + ".json");
  }
  std::filesystem::path slurm_watch_file(const std::string& cluster) const {
    return slurm_folder() / ("watch-" + cluster + ".sh");
  }

 protected:
  std::filesystem::path root_;
};

}  // namespace filo
