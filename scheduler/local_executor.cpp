#include "scheduler/local_executor.hpp"

#include <sched.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/error.hpp"
#include "base/files.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
constexpr double foreign_claim_lifetime_s = 60;

std::string host_name() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  return name;
}

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Ticks since boot at which a process started, "" when there is none (or only its corpse). A pid alone may be reused.
std::string process_start(long pid) {
  const std::string stat = first_line("/proc/" + std::to_string(pid) + "/stat");
  const auto name_end = stat.rfind(')');  // the name in parentheses may hold anything
  if (name_end == std::string::npos) return "";
  std::istringstream fields(stat.substr(name_end + 1));
  std::string field;
  fields >> field;  // state
  if (field == "Z" || field == "X") return "";
  for (int i = 0; i < 19; ++i) fields >> field;  // field 22 of proc(5)
  return field;
}

Json make_claim() {
  return {{"executor", "local"},
          {"host", host_name()},
          {"boot", first_line("/proc/sys/kernel/random/boot_id")},
          {"pid", getpid()},
          {"process_started", process_start(getpid())}};
}

std::vector<std::string> arguments_of(const fs::path& process_folder) {
  std::vector<std::string> arguments;
  std::ifstream file(process_folder / "cmdline", std::ios::binary);
  for (std::string argument; std::getline(file, argument, '\0');) arguments.push_back(argument);
  return arguments;
}

bool has_option(const std::vector<std::string>& arguments, const std::string& option, const std::string& value) {
  for (std::size_t i = 0; i + 1 < arguments.size(); ++i)
    if (arguments[i] == option && arguments[i + 1] == value) return true;
  return false;
}

// Processes of this host that work on a stage of this workspace, their own mpirun included.
std::vector<pid_t> workers_on(const Workspace& workspace, const std::string& key) {
  std::vector<pid_t> pids;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const auto arguments = arguments_of(entry.path());
    if (has_option(arguments, "--stage", key) && has_option(arguments, "--workspace", workspace.root().string()))
      pids.push_back(static_cast<pid_t>(std::stol(name)));
  }
  return pids;
}

void end_survivors(const Workspace& workspace, const std::string& key) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  for (;;) {
    const auto pids = workers_on(workspace, key);
    if (pids.empty()) return;
    if (std::chrono::steady_clock::now() > deadline)
      throw Error("scheduler: stage " + key, "a worker of an earlier attempt (process " + std::to_string(pids[0]) +
                                                 ") does not end; end it, then run again");
    for (const pid_t pid : pids) kill(pid, SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

std::uint64_t memory_limit() {
  const auto pages = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES));
  std::uint64_t bytes = pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    const std::string text = first_line(path);
    if (!text.empty() && text.size() < 19 && text.find_first_not_of("0123456789") == std::string::npos)
      bytes = std::min<std::uint64_t>(bytes, std::stoull(text));
  }
  return bytes;
}

}  // namespace

LocalCapacity this_machine() {
  LocalCapacity capacity;
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) capacity.cores = std::max(1, CPU_COUNT(&cores));
  capacity.memory_bytes = memory_limit();
  std::error_code error;
  while (fs::exists("/dev/nvidia" + std::to_string(capacity.gpus), error)) ++capacity.gpus;
  return capacity;
}

std::uint64_t memory_in_bytes(const std::string& text) {
  const std::string units = "KMGT";
  std::uint64_t bytes = std::stoull(text);
  for (std::size_t i = 0; i <= units.find(text.back()); ++i) bytes *= 1024;
  return bytes;
}

LocalExecutor::LocalExecutor(const Workspace& workspace, fs::path worker, LocalCapacity capacity, std::string mpirun)
    : workspace_(workspace),
      worker_(std::move(worker)),
      capacity_(capacity),
      mpirun_(std::move(mpirun)),
      claim_(make_claim()) {}

LocalExecutor::~LocalExecutor() {
  end_all();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  for (auto& [id, entry] : running_)
    while (!entry.process.poll() && std::chrono::steady_clock::now() < deadline)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
}  // ~Process kills the rest

std::vector<Job> LocalExecutor::jobs() {
  std::vector<Job> jobs;
  for (auto& [id, entry] : running_) {
    const auto result = entry.process.poll();
    Job job{.stage = id.first, .attempt = id.second, .running = !result, .asked_to_stop = entry.asked_to_stop};
    if (result) {
      job.exit_code = result->exit_code;
      job.signal = result->signal;
    }
    jobs.push_back(job);
  }
  return jobs;
}

bool LocalExecutor::has_room(const ResourceSettings& wanted) {
  long cores = static_cast<long>(wanted.ranks) * wanted.threads;
  long gpus = static_cast<long>(wanted.ranks) * wanted.gpus;
  std::uint64_t memory = memory_in_bytes(wanted.memory);
  bool alone = true;
  for (auto& [id, entry] : running_) {
    if (entry.process.poll()) continue;
    alone = false;
    cores += static_cast<long>(entry.resources.ranks) * entry.resources.threads;
    gpus += static_cast<long>(entry.resources.ranks) * entry.resources.gpus;
    memory += memory_in_bytes(entry.resources.memory);
  }
  return alone || (cores <= capacity_.cores && memory <= capacity_.memory_bytes && gpus <= capacity_.gpus);
}

Json LocalExecutor::claim() const { return claim_; }

bool LocalExecutor::may_be_running(const Json& claim, double age_s) const {
  const auto text = [&](const char* key) {
    return claim.contains(key) && claim[key].is_string() ? claim[key].get<std::string>() : "";
  };
  if (text("host") != claim_["host"]) return age_s < foreign_claim_lifetime_s;
  if (text("boot") != claim_["boot"] || !claim.contains("pid") || !claim["pid"].is_number_integer()) return false;
  return !text("process_started").empty() && process_start(claim["pid"].get<long>()) == text("process_started");
}

void LocalExecutor::start(const PlannedStage& stage, int attempt) {
  if (attempt > 1) end_survivors(workspace_, stage.key);
  const ResourceSettings& resources = stage.resources;
  ProcessOptions options;
  options.arguments = {mpirun_,
                       "-np",
                       std::to_string(resources.ranks),
                       "--oversubscribe",
                       "--bind-to",
                       "none",
                       worker_.string(),
                       to_string(stage.kind),
                       "--workspace",
                       workspace_.root().string(),
                       "--stage",
                       stage.key,
                       "--attempt",
                       std::to_string(attempt),
                       "--threads",
                       std::to_string(resources.threads)};
  if (resources.gpus > 0) {
    options.arguments.push_back("--gpus");
    options.arguments.push_back(std::to_string(resources.gpus));
  }
  options.environment = {{"OMP_NUM_THREADS", std::to_string(resources.threads)}};
  if (geteuid() == 0) {
    options.environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1";
    options.environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
  }
  options.output_file = workspace_.log_file(stage.key, attempt);
  running_.emplace(std::make_pair(stage.key, attempt), Running{Process(options), resources});
}

void LocalExecutor::forget(const std::string& stage, int attempt) { running_.erase({stage, attempt}); }

void LocalExecutor::ask_to_stop() {
  for (auto& [id, entry] : running_) {
    if (entry.process.poll()) continue;
    entry.asked_to_stop = true;
    kill(entry.process.pid(), SIGUSR2);
  }
}

void LocalExecutor::end_all() {
  for (auto& [id, entry] : running_)
    if (!entry.process.poll()) kill(entry.process.pid(), SIGTERM);
}

fs::path find_worker() {
  fs::path worker;
  if (const char* chosen = std::getenv("FILO_WORKER"); chosen != nullptr && *chosen != '\0') {
    worker = fs::absolute(chosen);
  } else {
    std::error_code error;
    worker = fs::read_symlink("/proc/self/exe", error).parent_path() / "filo-worker";
  }
  if (access(worker.c_str(), X_OK) != 0)
    throw Error("scheduler: " + worker.string(),
                "found no such program, expected filo-worker beside filo (make build) or where FILO_WORKER says");
  return worker;
}

}  // namespace filo
