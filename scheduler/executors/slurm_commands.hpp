// Slurm through its own commands: sbatch, squeue, scancel, scontrol, sacct. Each runs as a child process without a
// shell, in an environment of its own (none of this process's SLURM_*, SBATCH_*, SQUEUE_*), and is ended after
// `command_timeout_s`: a controller that hangs never hangs the caller for longer.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "settings/cluster.hpp"

namespace filo {

// A job, or one task of a job array, as squeue or sacct shows it.
struct SlurmJob {
  long id = 0;    // of the job, or of its array
  int index = 0;  // in the array; 0 when it is none
  bool array = false;
  std::string state;  // PENDING, RUNNING, ..., NODE_FAIL
  int exit_code = 0;
  int signal = 0;
  int restarts = 0;     // requeued by Slurm
  double seconds = -1;  // from its latest start to its end; below 0: not known
  std::string reason{}, nodes{}, name{};

  std::string label() const;  // "12_3", as the commands take it
  std::string node() const;   // the one that it ran on; "": several, or none
  bool has_ended() const;
  bool is_pending() const;  // neither ended nor on a node
};

// What came of one sbatch.
struct SlurmSubmission {
  enum class Outcome {
    taken,
    refused,   // for a reason that will not go away by itself: wrong partition, account, limits of the request
    full,      // the queue or the user's share of it is; not taken
    uncertain  // the controller did not answer, or too late: the job may be there
  };
  Outcome outcome = Outcome::uncertain;
  long id = 0;          // when taken
  std::string message;  // one line, when not
};

// What the accounting data base tells of an ended job's use; below 0 what it does not tell.
struct SlurmUse {
  double seconds = -1, cpu_s = -1;
  double memory_bytes = -1;  // the peak of a step, all of its tasks together
  double gpu_memory_bytes = -1, gpu_use = -1;
  double energy_j = -1;
};

// Not thread-safe.
class SlurmCommands {
 public:
  explicit SlurmCommands(const ClusterSettings& settings);

  // All jobs of this user that the controller still knows, array tasks one by one. Throws Error when it did not answer:
  // that says nothing about any job.
  std::vector<SlurmJob> queue();

  // `arguments`: sbatch's, the script last. `variables`: of this process's environment, which the job gets besides what
  // every job does; their values stand on no command line.
  SlurmSubmission submit(const std::vector<std::string>& arguments, std::optional<double> timeout_s = {},
                         const std::vector<std::string>& variables = {});

  // Labels as "12" or "12_3"; one command for all (several where there are very many). Returns why not, "" when done;
  // jobs that are over by now are no error.
  std::string release(const std::vector<std::string>& labels);
  std::string cancel(const std::vector<std::string>& labels);
  std::string signal_batch_script(const std::string& signal, const std::vector<std::string>& labels);

  // slurm.conf as the controller has it: MaxArraySize, MessageTimeout, ...; asked for once. Empty when not allowed.
  const std::map<std::string, std::string>& configuration();

  // How many nodes the partition has, "" the default one; 0 when that cannot be asked.
  std::size_t nodes_of(const std::string& partition);

  // Ended jobs by the accounting data base; none when it cannot be asked.
  std::vector<SlurmJob> accounted(const std::vector<std::string>& labels);

  // By the job's raw id (of an array's task too). None when it cannot be asked.
  std::map<long, SlurmUse> used(const std::vector<long>& ids);

  // Runs any of the commands. For doctor.
  struct Answer {
    bool ok = false;
    bool timed_out = false;
    std::string output;  // stdout and stderr
  };
  Answer run(std::vector<std::string> arguments, std::optional<double> timeout_s = {},
             const std::vector<std::string>& variables = {});

  int commands_run() const { return commands_run_; }  // to the controller, so far

 private:
  std::string each(const std::vector<std::string>& command, const std::vector<std::string>& labels, bool joined);

  const ClusterSettings settings_;
  std::optional<std::map<std::string, std::string>> configuration_;
  int commands_run_ = 0;
};

// Seconds of a time as sinfo or sacct prints it ("1-02:03:04", "02:03:04", "03:04", "03:04.567"); nullopt: "infinite",
// or none at all.
std::optional<std::int64_t> slurm_seconds(const std::string& text);

// "a|b|c|" of one line, the last field with whatever '|' is left.
std::vector<std::string> split_fields(const std::string& line, std::size_t fields);

}  // namespace filo
