// A cluster file (configs/clusters/*.yaml): how stages become jobs of one Slurm cluster. Checked as experiments are.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/json.hpp"

namespace filo {

enum class GpuForm { gres, gpus, gpus_per_task, none };  // --gres=gpu[:TYPE]:N, --gpus=[TYPE:]N, --gpus-per-task
enum class MemoryForm { per_cpu, per_node, none };       // --mem-per-cpu, --mem, no option (sites that refuse both)
enum class LauncherProgram { srun, mpirun };
enum class ContainerRuntime { none, apptainer, pyxis };  // pyxis: srun --container-image, of NVIDIA's plugin for Slurm

// What the worker runs in. The workspace and the folder that stages start in are mounted where they are outside.
struct ContainerSettings {
  ContainerRuntime runtime = ContainerRuntime::none;
  std::string image;                 // as the runtime takes it: a path, or the image's address
  std::vector<std::string> mounts;   // "/data" or "/data:/inside[:FLAGS]"
  std::vector<std::string> options;  // of `apptainer exec`, or of srun
};

// Nodes that this workspace's jobs keep away from.
struct BadNodeSettings {
  bool health_check = true;         // before the worker: GPUs, memory, workspace, clock
  int limit = 8;                    // nodes at a time, and never more than half of the partition's; 0: none
  std::string expiry = "12:00:00";  // after which a node is tried again
  double within_s = 20;             // an attempt that fails sooner keeps its stage away from the node
};

// Empty texts leave their option away. configs/clusters/generic.yaml says what each is for.
struct ClusterSettings {
  std::string name;
  std::string partition, account, qos, constraint, licenses;
  GpuForm gpu_form = GpuForm::gres;
  std::string gpu_type;
  MemoryForm memory = MemoryForm::per_cpu;
  bool one_node = true;  // all ranks of a stage on one node
  LauncherProgram launcher = LauncherProgram::srun;
  std::string mpi = "pmix";                     // srun --mpi=
  std::vector<std::string> launcher_arguments;  // after the program's own, before the worker
  std::vector<std::string> modules;
  std::vector<std::string> prologue;  // lines of bash
  std::map<std::string, std::string> environment;
  std::string
      worker;  // absolute path on the nodes, or in the container; "": where this machine has it, or the image's PATH
  ContainerSettings container{};
  BadNodeSettings bad_nodes{};
  bool requeue = false;
  int signal_lead_s = 120;
  int max_array_size = 1000;         // jobs in one array; the controller's own MaxArraySize counts too
  int max_submit = 1000;             // the user's jobs in the queue at once
  std::string max_time, max_memory;  // of one job, whatever a stage asks for: "24:00:00", "64G"; "": no limit
  double command_timeout_s = 30;
  double message_timeout_s = 10;  // slurm.conf's MessageTimeout, where the controller does not tell
  double result_grace_s = 90;     // for a result.json that is not there yet when its job has ended well
  std::string slurm_bin;          // folder of sbatch, squeue, ...; "": PATH
  std::vector<std::string> sbatch_options;
  bool watch = true;  // `filo submit` leaves a job behind that goes on reconciling
  std::string watch_time = "12:00:00";
  double watch_interval_s = 15;
  std::vector<std::string> watch_options;
};

// Throws UsageError "settings: FILE:LINE: KEY: found ..., expected ...; did you mean ...?".
ClusterSettings load_cluster_settings(const std::string& yaml_path);

// Resolved, in the shape of the file.
Json to_json(const ClusterSettings& settings);

// The inverse, checked by the same schema: throws UsageError naming `where` and the key.
ClusterSettings cluster_settings_from_json(const Json& json, const std::string& where);

}  // namespace filo
