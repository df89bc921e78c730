#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <thread>
#include <vector>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "scheduler/executors/doctor/tools.hpp"
#include "scheduler/executors/slurm_batch.hpp"
#include "scheduler/executors/slurm_commands.hpp"
#include "scheduler/executors/slurm_launch.hpp"
#include "settings/resources.hpp"
#include "workspace/file_clock.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
using Verdict = Check::Verdict;
using Clock = std::chrono::steady_clock;

std::string value_of(const std::map<std::string, std::string>& configuration, const std::string& key) {
  const auto found = configuration.find(key);
  return found == configuration.end() ? "" : found->second;
}

Check check_partition(SlurmCommands& commands, const ClusterSettings& settings) {
  std::vector<std::string> command = {"sinfo", "--noheader", "--format=%P %a %l %F"};
  if (!settings.partition.empty()) command.push_back("--partition=" + settings.partition);
  const auto answer = commands.run(command);
  const std::string wanted = settings.partition.empty() ? "the default partition" : settings.partition;
  if (!answer.ok || answer.output.empty())
    return {"partition", Verdict::bad, wanted + ": " + (answer.output.empty() ? "not there" : shortened(answer.output)),
            "`sinfo` lists what there is: set the key partition"};
  std::istringstream lines(answer.output);
  for (std::string line; std::getline(lines, line);) {
    if (settings.partition.empty() && line.find('*') == std::string::npos) continue;
    const bool up = line.find(" up ") != std::string::npos;
    const std::string found = line + " (name, state, longest time, nodes allocated/idle/other/total)";
    if (!up)
      return {"partition", Verdict::bad, found, "it takes no jobs now: choose another in the key partition, or wait"};
    std::istringstream fields(line);
    std::string name, state, longest;
    fields >> name >> state >> longest;
    const auto most = slurm_seconds(longest);
    if (most && (settings.max_time.empty() || time_in_seconds(settings.max_time) > *most))
      return {"partition", Verdict::warning, found,
              "set max_time: \"" + time_text(*most) + "\": a job that asks for more would never start"};
    return {"partition", Verdict::good, found};
  }
  return {"partition", Verdict::bad, "there is no default partition",
          "`sinfo` lists what there is: set the key partition"};
}

Check check_limits(SlurmCommands& commands, const ClusterSettings& settings) {
  const auto& site = commands.configuration();
  if (site.empty())
    return {"limits", Verdict::warning, "scontrol show config is not allowed here",
            "ask for MaxArraySize and MessageTimeout, and set max_array_size and message_timeout_s"};
  const std::string found = "MaxArraySize " + value_of(site, "MaxArraySize") + ", MaxJobCount " +
                            value_of(site, "MaxJobCount") + ", MessageTimeout " + value_of(site, "MessageTimeout") +
                            ", " + value_of(site, "AccountingStorageType") + "; settings: arrays of " +
                            std::to_string(settings.max_array_size) + ", " + std::to_string(settings.max_submit) +
                            " jobs at once";
  if (std::atol(value_of(site, "MaxJobCount").c_str()) < settings.max_submit)
    return {"limits", Verdict::warning, found, "set max_submit below MaxJobCount, which all users share"};
  return {"limits", Verdict::good, found};
}

constexpr const char* last_file = "last";  // that the probe writes
constexpr double longest_lag_s = 120;

std::string probe_script(const ClusterSettings& settings, const fs::path& folder, const std::string& worker) {
  ResourceSettings resources;
  resources.ranks = 2;
  std::string text = "#!/bin/bash\nfolder=" + shell_quoted(folder.string()) + "\nworker=" + shell_quoted(worker) + "\n";
  text +=
      "exec >\"$folder/output\" 2>&1 </dev/null || exit 3\necho \"node $(hostname)\"; echo \"clock $(date +%s.%N)\"\n";
  text += "trap 'echo >\"$folder/" + std::string(last_file) + "\"' EXIT\n";
  text += slurm_site_preamble(settings);
  if (settings.container.runtime == ContainerRuntime::none)
    text += "[ -x \"$worker\" ] || { echo 'no worker'; exit 1; }\n";
  if (settings.container.runtime == ContainerRuntime::apptainer)
    text += "apptainer --version || { echo 'no apptainer'; exit 1; }\n";
  const std::string launch = slurm_launch_command(settings, resources, {"folder", "PWD"});
  resources.ranks = 1;
  text += slurm_launch_command(settings, resources, {"folder", "PWD"}) + " --version\n" + launch +
          " features --workspace \"$folder\" --stage " + std::string(no_stage) + "\ntrue\n";
  return text;
}

std::vector<std::string> probe_arguments(const ClusterSettings& settings, const std::string& name,
                                         const fs::path& script) {
  std::vector<std::string> arguments = {"--parsable",   "--job-name=" + name, "--output=/dev/null",
                                        "--export=ALL", "--no-requeue",       "--time=00:01:00",
                                        "--ntasks=2",   "--chdir=/",          "--cpus-per-task=1"};
  if (settings.one_node) arguments.push_back("--nodes=1");
  for (const auto& option : slurm_site_options(settings)) arguments.push_back(option);
  arguments.insert(arguments.end(), settings.sbatch_options.begin(), settings.sbatch_options.end());
  arguments.push_back(script.string());
  return arguments;
}

// How long after its writing a node's file is seen here; watched for from before it is there, as results are. By the
// file server's clock. Unset: not within `wait_s`.
class LagMeter {
 public:
  explicit LagMeter(const fs::path& folder) : file_(folder / last_file), clock_(folder / "clock") {}

  void look() {
    struct stat status {};
    if (!lag_s_ && stat(file_.c_str(), &status) == 0) lag_s_ = std::max(0.0, clock_.age_s(file_));
  }
  std::optional<double> wait(double wait_s) {
    const auto deadline = Clock::now() + std::chrono::duration<double>(wait_s);
    for (look(); !lag_s_ && Clock::now() < deadline; look())
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    return lag_s_;
  }

 private:
  fs::path file_;
  FileClock clock_;
  std::optional<double> lag_s_;
};

Check check_lag(std::optional<double> lag_s, double grace_s) {
  if (!lag_s)
    return {"node's files", Verdict::bad, "one was not seen here within " + formatted(longest_lag_s, "%.0f s"),
            "mount the workspace with shorter attribute caching (NFS: acdirmax, lookupcache=positive)"};
  const std::string found = "seen here " + formatted(*lag_s, "%.1f s") + " after they were written";
  if (*lag_s > grace_s / 2)
    return {"node's files", Verdict::warning, found,
            "set result_grace_s to " + formatted(std::ceil(*lag_s * 3), "%.0f") +
                " or more: results that are seen later cost another attempt"};
  return {"node's files", Verdict::good, found};
}

// The job as it has ended, or as it stands after `wait_s`.
SlurmJob wait_for_job(SlurmCommands& commands, long id, const std::string& name, double wait_s, LagMeter& lag) {
  const auto deadline = Clock::now() + std::chrono::duration<double>(wait_s);
  SlurmJob job{.id = id, .state = "PENDING"};
  while (Clock::now() < deadline && !job.has_ended()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    lag.look();
    for (const auto& row : commands.queue())
      if (row.id == id && row.name == name) job = row;
  }
  return job;
}

// By what the probe wrote on the node.
std::vector<Check> check_node(const fs::path& output_file, const ClusterSettings& settings, const std::string& worker,
                              const std::string& version) {
  const std::string output = read_file(output_file);
  std::vector<Check> checks;
  double node_clock = 0;
  if (const auto at = output.find("clock "); at != std::string::npos) node_clock = std::atof(output.c_str() + at + 6);
  struct stat status {};
  if (stat(output_file.c_str(), &status) == 0 && node_clock > 0) {
    const double skew = std::abs(node_clock - static_cast<double>(status.st_ctim.tv_sec));
    if (skew > skew_bad_s)
      checks.push_back({"node's clock", Verdict::warning, formatted(skew, "%.0f s") + " off the file server's",
                        "ask the administrator for NTP on the nodes"});
  }
  if (output.find("no worker") != std::string::npos)
    checks.push_back({"worker on the node", Verdict::bad, worker + " is not there or not executable",
                      "put it on a shared file system, and its path into the key worker"});
  else if (output.find("no apptainer") != std::string::npos)
    checks.push_back({"container on the node", Verdict::bad, "there is no program apptainer",
                      "load its module (key modules), or put its folder into PATH (key environment)"});
  else if (!two_ranks_came_up(output))
    checks.push_back(
        {"MPI on the node", Verdict::bad, "two ranks do not come up: " + shortened(output),
         settings.container.runtime == ContainerRuntime::none
             ? "try launcher.program: mpirun, another launcher.mpi (`srun --mpi=list`), or the site's modules"
             : "the image's MPI must go with the site's (docs/how-to/container.md); key worker: its path in the "
               "image"});
  else
    checks.push_back({"MPI on the node", Verdict::good,
                      settings.container.runtime == ContainerRuntime::none
                          ? "two ranks of filo-worker come up"
                          : "two ranks of filo-worker come up in " + settings.container.image});
  if (checks.back().verdict == Verdict::good && output.find("filo-worker " + version + "\n") == std::string::npos)
    checks.push_back({"worker on the node", Verdict::bad, worker + " is of another version than filo, " + version,
                      "build both, or the image, from one checkout"});
  return checks;
}

// One job that looks at the node from inside.
std::vector<Check> check_job(SlurmCommands& commands, const ClusterSettings& settings, const fs::path& workspace,
                             const std::string& version, double wait_s) {
  const std::string worker = worker_on_nodes(settings);
  const TemporaryFolder folder(workspace);
  const fs::path script = folder.path() / "probe.sh", output = folder.path() / "output";
  write_file_atomically(script, probe_script(settings, folder.path(), worker));
  const std::string name = "filo-doctor-" + std::to_string(getpid());
  const auto submission = commands.submit(probe_arguments(settings, name, script));
  if (submission.outcome != SlurmSubmission::Outcome::taken)
    return {{"test job", Verdict::bad, "sbatch: " + submission.message,
             "set partition, account, qos as your site wants them (sacctmgr show assoc user=$USER tells)"}};
  const std::string label = std::to_string(submission.id);
  LagMeter lag(folder.path());
  const SlurmJob job = wait_for_job(commands, submission.id, name, wait_s, lag);
  if (!job.has_ended()) {
    commands.cancel({label});
    return {{"test job", Verdict::warning,
             "job " + label + " was still " + job.state + " (" + job.reason + ") after " + formatted(wait_s, "%.0f s") +
                 ", and was cancelled",
             "the queue is long, or the resources do not exist: try again with --wait 600"}};
  }
  const bool could_not_write = job.exit_code == 3;
  if (!could_not_write) log_info("doctor: looking for what job " + label + " wrote, for up to 2 minutes");
  const auto lag_s = lag.wait(could_not_write ? 0 : longest_lag_s);
  std::error_code error;
  if (!fs::exists(output, error))
    return {{"test job", Verdict::bad,
             "job " + label + " on " + job.nodes + " ended " + job.state + " and could not write into the workspace",
             "the workspace must be on a file system that the nodes share: " + workspace.string()}};
  std::vector<Check> checks = {
      {"test job", Verdict::good, "job " + label + " ran on " + job.nodes + " and wrote into the workspace"}};
  checks.push_back(check_lag(lag_s, settings.result_grace_s));
  for (auto& check : check_node(output, settings, worker, version)) checks.push_back(std::move(check));
  return checks;
}

// Oldest first. What their commands print is in tests/unit/scheduler/testdata/slurm.
const std::vector<std::string> read_versions = {"20.11", "22.05", "23.11", "24.11", "25.11"};

// `line`: "slurm-wlm 22.05.8", "slurm 25.11.7".
Check check_version(const std::string& line) {
  const auto digit = line.find_first_of("0123456789");
  const std::string version = digit == std::string::npos ? "" : line.substr(digit, read_versions.front().size());
  std::string all;
  for (const auto& read : read_versions) {
    if (version == read) return {"Slurm's commands", Verdict::good, line};
    all += (all.empty() ? "" : ", ") + read;
  }
  const std::string found = line + ": not among the versions whose outputs were read: " + all;
  if (version > read_versions.front() && version < read_versions.back())
    return {"Slurm's commands", Verdict::good, found};  // its neighbours were
  return {
      "Slurm's commands", Verdict::warning, found,
      "exit codes, states and refusals may read otherwise here: compare `filo status` with squeue for the first jobs"};
}

Check check_commands(SlurmCommands& commands) {
  std::string absent, version;
  for (const char* program : {"sbatch", "squeue", "scancel", "scontrol"}) {
    const auto answer = commands.run({program, "--version"});
    if (!answer.ok)
      absent += (absent.empty() ? "" : ", ") + std::string(program);
    else
      version = first_line(answer.output);
  }
  if (!absent.empty())
    return {"Slurm's commands", Verdict::bad, absent + " cannot be run",
            "log in to a machine of the cluster, or set the key slurm_bin"};
  return check_version(version);
}

Check check_controller(SlurmCommands& commands) {
  const auto start = Clock::now();
  const auto ping = commands.run({"scontrol", "ping"});
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  if (!ping.ok || ping.output.find(" UP") == std::string::npos)
    return {"controller", Verdict::bad, shortened(ping.timed_out ? "no answer in time" : ping.output),
            "wait until slurmctld is back (jobs that run go on), or ask the administrator"};
  return {"controller", Verdict::good,
          first_line(ping.output) + ", answers in " + formatted(seconds * 1000, "%.0f ms")};
}

}  // namespace

std::vector<Check> check_cluster(const ClusterSettings& settings, const fs::path& workspace, const std::string& version,
                                 double job_wait_s) {
  SlurmCommands commands(settings);
  std::vector<Check> checks;
  for (const auto& check : {check_commands, check_controller}) {
    checks.push_back(check(commands));
    if (checks.back().verdict == Verdict::bad) return checks;
  }
  checks.push_back(check_partition(commands, settings));
  checks.push_back(check_limits(commands, settings));
  if (settings.launcher == LauncherProgram::srun && !settings.mpi.empty()) {
    const auto answer = commands.run({"srun", "--mpi=list"});
    if (answer.output.find(settings.mpi) == std::string::npos)
      checks.push_back({"srun --mpi", Verdict::bad, settings.mpi + " is not among: " + shortened(answer.output),
                        "set launcher.mpi to one of them, or launcher.program: mpirun"});
  }
  if (settings.container.runtime == ContainerRuntime::pyxis &&
      commands.run({"srun", "--help"}).output.find("--container-image") == std::string::npos)
    checks.push_back({"container", Verdict::bad, "srun knows no --container-image: Pyxis is not installed here",
                      "ask the administrator, or set container.runtime: apptainer"});
  if (job_wait_s > 0) {
    try {
      for (auto& check : check_job(commands, settings, workspace, version, job_wait_s))
        checks.push_back(std::move(check));
    } catch (const Error& error) {
      checks.push_back({"test job", Verdict::bad, error.what(), "try again once the controller answers"});
    }
  }
  return checks;
}

}  // namespace filo
