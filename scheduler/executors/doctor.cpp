#include "scheduler/executors/doctor.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <thread>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/host.hpp"
#include "base/process.hpp"
#include "base/text.hpp"
#include "scheduler/executors/local_executor.hpp"
#include "scheduler/executors/slurm_batch.hpp"
#include "scheduler/executors/slurm_commands.hpp"
#include "settings/resources.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
using Verdict = Check::Verdict;
using Clock = std::chrono::steady_clock;

constexpr double slow_fsync_s = 0.2;
constexpr double skew_warning_s = 2, skew_bad_s = 30;
constexpr double least_free_gigabytes = 10;
// A stage that is not there: the worker says so after MPI is up, and puts its rank before it.
constexpr const char* no_stage = "0000000000000000";

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

std::string shortened(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ';');
  return text.size() > 300 ? cut_text(text, 300) + "..." : text;
}

std::string number(double value, const char* format) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

struct Ran {
  bool ok = false;
  std::string output;
};

Ran try_to_run(const std::vector<std::string>& arguments, double timeout_s = 30) {
  try {
    const auto captured = run_and_capture(arguments, timeout_s, /*with_stderr=*/true);
    return {captured.result.ok(), captured.output};
  } catch (const Error& error) {
    return {false, error.what()};
  }
}

class Folder {  // removed with its owner
 public:
  explicit Folder(const fs::path& parent)
      : path_(parent /
              (".doctor-" + std::to_string(getpid()) + "-" + std::to_string(Clock::now().time_since_epoch().count()))) {
    fs::create_directories(path_);
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

Check check_worker(const std::string& version, const fs::path& worker) {
  const Ran ran = try_to_run({worker.string(), "--version"});
  const std::string told = first_line(ran.output);
  if (!ran.ok)
    return {"filo-worker", Verdict::bad, worker.string() + ": " + shortened(ran.output),
            "make build, or name the program in FILO_WORKER or in the cluster file's key worker"};
  if (told != "filo-worker " + version)
    return {"filo-worker", Verdict::bad, worker.string() + " is " + told + ", filo is " + version,
            "build both from one checkout: make build"};
  return {"filo-worker", Verdict::good, worker.string() + ", " + told};
}

Check check_mpirun(const fs::path& worker) {
  const Ran version = try_to_run({"mpirun", "--version"});
  if (!version.ok)
    return {"mpirun", Verdict::bad, shortened(version.output),
            "install Open MPI (tools/setup), or load its module; filo run needs it"};
  const std::string environment = geteuid() == 0 ? "OMPI_ALLOW_RUN_AS_ROOT=1" : "FILO_DOCTOR=1";
  const std::string confirm = geteuid() == 0 ? "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1" : "FILO_DOCTOR=1";
  const Folder folder(fs::temp_directory_path());
  const Ran ran = try_to_run({"env", environment, confirm, "mpirun", "-np", "2", "--oversubscribe", worker.string(),
                              "features", "--workspace", folder.path().string(), "--stage", no_stage},
                             60);
  if (ran.output.find("/2: ") == std::string::npos)
    return {"mpirun", Verdict::bad, "two ranks of filo-worker do not come up: " + shortened(ran.output),
            "the worker must be built with the MPI that mpirun belongs to: " + first_line(version.output)};
  return {"mpirun", Verdict::good, first_line(version.output) + ", two ranks of filo-worker come up"};
}

Check check_gpus() {
  const std::size_t gpus = this_machine().gpus.size();
  if (gpus == 0)
    return {"CUDA", Verdict::warning, "no NVIDIA GPU on this machine, or none that CUDA_VISIBLE_DEVICES leaves",
            "none needed where stages run on other machines, or with resources.gpus: 0"};
  const Ran driver = try_to_run({"nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader"});
  if (!driver.ok)
    return {"CUDA", Verdict::bad, std::to_string(gpus) + " GPUs, but nvidia-smi fails: " + shortened(driver.output),
            "install the NVIDIA driver's tools, or ask the administrator"};
  return {"CUDA", Verdict::good, std::to_string(gpus) + " GPUs, driver " + first_line(driver.output)};
}

Check check_locks(const fs::path& folder) {
  const fs::path path = folder / "lock";
  const FileDescriptor file = open_file(path, O_RDWR | O_CREAT);
  if (flock(file.get(), LOCK_EX | LOCK_NB) != 0)
    return {"file locks", Verdict::bad, "flock fails on this file system",
            "mount it with locks (NFS: without nolock, Lustre: with flock), or use another workspace"};
  const std::vector<std::string> other = {"flock", "--nonblock", path.string(), "true"};
  const Ran while_held = try_to_run(other);
  flock(file.get(), LOCK_UN);
  const Ran when_free = try_to_run(other);
  if (while_held.ok || !when_free.ok)
    return {"file locks", Verdict::bad,
            while_held.ok ? "two processes held one lock at once" : "a free lock is not given: " + when_free.output,
            "mount the file system with locks (NFS: without nolock, Lustre: with flock), or use another workspace"};
  return {"file locks", Verdict::good, "one process at a time holds a lock"};
}

Check check_atomic_writes(const fs::path& folder) {
  const fs::path path = folder / "file";
  write_file_atomically(path, "one");
  const auto start = Clock::now();
  constexpr int writes = 5;
  for (int i = 0; i < writes; ++i) write_file_atomically(path, "two");
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count() / writes;
  const bool again = create_file_exclusively(path, "three");
  const bool made_twice = mkdir((folder / "a").c_str(), 0755) != 0 || mkdir((folder / "a").c_str(), 0755) == 0;
  if (read_file(path) != "two" || again || made_twice)
    return {"atomic writes", Verdict::bad, "rename, link or mkdir is not atomic here",
            "use a workspace on another file system"};
  const std::string found =
      "rename, link and mkdir are atomic; a durable write takes " + number(seconds * 1000, "%.1f ms");
  if (seconds > slow_fsync_s)
    return {"atomic writes", Verdict::warning, found, "a pass over many stages will be slow: use a faster file system"};
  return {"atomic writes", Verdict::good, found};
}

Check check_clock(const fs::path& folder) {
  const fs::path path = folder / "clock";
  write_file_atomically(path, "");
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) throw Error("doctor: " + path.string(), "cannot be examined");
  const double server = static_cast<double>(status.st_mtim.tv_sec) + static_cast<double>(status.st_mtim.tv_nsec) * 1e-9;
  const double here = wall_time_s();
  const double skew = std::abs(here - server);
  const std::string found = "the file server's clock is " + number(skew, "%.1f s") + " off this machine's";
  const std::string mend = "set both clocks by NTP: claims are judged by their age";
  if (skew > skew_bad_s) return {"clock", Verdict::bad, found, mend};
  if (skew > skew_warning_s) return {"clock", Verdict::warning, found, mend};
  return {"clock", Verdict::good, found};
}

Check check_space(const fs::path& folder) {
  struct statvfs status {};
  if (statvfs(folder.c_str(), &status) != 0)
    return {"free space", Verdict::warning, "the file system does not tell", "see that there is room"};
  const double gigabytes = static_cast<double>(status.f_bavail) * static_cast<double>(status.f_frsize) / 1e9;
  const std::string found = number(gigabytes, "%.1f GB free");
  if (status.f_files > 0 && status.f_favail < 100000)
    return {"free space", Verdict::warning, found + ", " + std::to_string(status.f_favail) + " inodes free",
            "each stage takes some 20 files: remove old workspaces, or ask for more inodes"};
  if (gigabytes < 1) return {"free space", Verdict::bad, found, "free some: a full disk stops every stage"};
  if (gigabytes < least_free_gigabytes)
    return {"free space", Verdict::warning, found,
            "features of MVTec-AD and VisA at the paper's size take 76 GB; `filo plan FILE` estimates an experiment's"};
  return {"free space", Verdict::good, found};
}

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

std::string probe_script(const ClusterSettings& settings, const fs::path& folder, const std::string& worker) {
  ResourceSettings resources;
  resources.ranks = 2;
  std::string text = "#!/bin/bash\nfolder=" + shell_quoted(folder.string()) + "\nworker=" + shell_quoted(worker) + "\n";
  text +=
      "exec >\"$folder/output\" 2>&1 </dev/null || exit 3\necho \"node $(hostname)\"; echo \"clock $(date +%s.%N)\"\n";
  text += slurm_site_preamble(settings);
  text += "[ -x \"$worker\" ] || { echo 'no worker'; exit 1; }\n\"$worker\" --version\n";
  text += slurm_launch_command(settings, resources) + " \"$worker\" features --workspace \"$folder\" --stage " +
          std::string(no_stage) + "\ntrue\n";
  return text;
}

// One job that looks at the node from inside.
std::vector<Check> check_job(SlurmCommands& commands, const ClusterSettings& settings, const fs::path& workspace,
                             const std::string& worker, double wait_s) {
  const Folder folder(workspace);
  const fs::path script = folder.path() / "probe.sh";
  write_file_atomically(script, probe_script(settings, folder.path(), worker));
  const std::string name = "filo-doctor-" + std::to_string(getpid());
  std::vector<std::string> arguments = {"--parsable",   "--job-name=" + name, "--output=/dev/null",
                                        "--export=ALL", "--no-requeue",       "--time=00:01:00",
                                        "--ntasks=2",   "--chdir=/",          "--cpus-per-task=1"};
  if (settings.one_node) arguments.push_back("--nodes=1");
  for (const auto& option : slurm_site_options(settings)) arguments.push_back(option);
  arguments.insert(arguments.end(), settings.sbatch_options.begin(), settings.sbatch_options.end());
  arguments.push_back(script.string());
  const auto submission = commands.submit(arguments);
  if (submission.outcome != SlurmSubmission::Outcome::taken)
    return {{"test job", Verdict::bad, "sbatch: " + submission.message,
             "set partition, account, qos as your site wants them (sacctmgr show assoc user=$USER tells)"}};
  const std::string label = std::to_string(submission.id);
  const auto deadline = Clock::now() + std::chrono::duration<double>(wait_s);
  SlurmJob job{.id = submission.id, .state = "PENDING"};
  while (Clock::now() < deadline && !job.has_ended()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    for (const auto& row : commands.queue())
      if (row.id == submission.id && row.name == name) job = row;
  }
  if (!job.has_ended()) {
    commands.cancel({label});
    return {{"test job", Verdict::warning,
             "job " + label + " was still " + job.state + " (" + job.reason + ") after " + number(wait_s, "%.0f s") +
                 ", and was cancelled",
             "the queue is long, or the resources do not exist: try again with --wait 600"}};
  }
  std::error_code error;
  if (!fs::exists(folder.path() / "output", error))
    return {{"test job", Verdict::bad,
             "job " + label + " on " + job.nodes + " ended " + job.state + " and could not write into the workspace",
             "the workspace must be on a file system that the nodes share: " + workspace.string()}};
  const std::string output = read_file(folder.path() / "output");
  std::vector<Check> checks = {
      {"test job", Verdict::good, "job " + label + " ran on " + job.nodes + " and wrote into the workspace"}};
  double node_clock = 0;
  if (const auto at = output.find("clock "); at != std::string::npos) node_clock = std::atof(output.c_str() + at + 6);
  struct stat status {};
  if (stat((folder.path() / "output").c_str(), &status) == 0 && node_clock > 0) {
    const double skew = std::abs(node_clock - static_cast<double>(status.st_ctim.tv_sec));
    if (skew > skew_bad_s)
      checks.push_back({"node's clock", Verdict::warning, number(skew, "%.0f s") + " off the file server's",
                        "ask the administrator for NTP on the nodes"});
  }
  if (output.find("no worker") != std::string::npos)
    checks.push_back({"worker on the node", Verdict::bad, worker + " is not there or not executable",
                      "put it on a shared file system, and its path into the key worker"});
  else if (output.find("/2: ") == std::string::npos)
    checks.push_back({"MPI on the node", Verdict::bad, "two ranks do not come up: " + shortened(output),
                      "try launcher.program: mpirun, another launcher.mpi (`srun --mpi=list`), or the site's modules"});
  else
    checks.push_back({"MPI on the node", Verdict::good, "two ranks of filo-worker come up"});
  return checks;
}

}  // namespace

std::string to_string(Check::Verdict verdict) {
  switch (verdict) {
    case Verdict::good:
      return "good";
    case Verdict::warning:
      return "warning";
    case Verdict::bad:
      return "bad";
  }
  return "";
}

Json to_json(const Check& check) {
  return {{"name", check.name}, {"verdict", to_string(check.verdict)}, {"found", check.found}, {"mend", check.mend}};
}

std::vector<Check> check_programs(const std::string& version, const fs::path& worker) {
  std::vector<Check> checks = {check_worker(version, worker)};
  if (checks[0].verdict == Verdict::good) checks.push_back(check_mpirun(worker));
  checks.push_back(check_gpus());
  return checks;
}

std::vector<Check> check_workspace(const fs::path& workspace) {
  try {
    fs::create_directories(workspace);
    const Folder folder(workspace);
    return {check_locks(folder.path()), check_atomic_writes(folder.path()), check_clock(folder.path()),
            check_space(folder.path())};
  } catch (const std::exception& error) {
    return {{"workspace", Verdict::bad, error.what(),
             "choose a folder that you may write: --workspace or $FILO_WORKSPACE"}};
  }
}

std::vector<Check> check_cluster(const ClusterSettings& settings, const fs::path& workspace, const fs::path& worker,
                                 double job_wait_s) {
  SlurmCommands commands(settings);
  std::vector<Check> checks;
  std::string absent, version;
  for (const char* program : {"sbatch", "squeue", "scancel", "scontrol"}) {
    const auto answer = commands.run({program, "--version"});
    if (!answer.ok)
      absent += (absent.empty() ? "" : ", ") + std::string(program);
    else
      version = first_line(answer.output);
  }
  if (!absent.empty())
    return {{"Slurm's commands", Verdict::bad, absent + " cannot be run",
             "log in to a machine of the cluster, or set the key slurm_bin"}};
  checks.push_back({"Slurm's commands", Verdict::good, version});
  const auto start = Clock::now();
  const auto ping = commands.run({"scontrol", "ping"});
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  if (!ping.ok || ping.output.find(" UP") == std::string::npos) {
    checks.push_back({"controller", Verdict::bad, shortened(ping.timed_out ? "no answer in time" : ping.output),
                      "wait until slurmctld is back (jobs that run go on), or ask the administrator"});
    return checks;
  }
  checks.push_back(
      {"controller", Verdict::good, first_line(ping.output) + ", answers in " + number(seconds * 1000, "%.0f ms")});
  checks.push_back(check_partition(commands, settings));
  checks.push_back(check_limits(commands, settings));
  if (settings.launcher == LauncherProgram::srun && !settings.mpi.empty()) {
    const auto answer = commands.run({"srun", "--mpi=list"});
    if (answer.output.find(settings.mpi) == std::string::npos)
      checks.push_back({"srun --mpi", Verdict::bad, settings.mpi + " is not among: " + shortened(answer.output),
                        "set launcher.mpi to one of them, or launcher.program: mpirun"});
  }
  if (job_wait_s > 0) {
    const std::string path = settings.worker.empty() ? worker.string() : settings.worker;
    try {
      for (auto& check : check_job(commands, settings, workspace, path, job_wait_s)) checks.push_back(std::move(check));
    } catch (const Error& error) {
      checks.push_back({"test job", Verdict::bad, error.what(), "try again once the controller answers"});
    }
  }
  return checks;
}

}  // namespace filo
