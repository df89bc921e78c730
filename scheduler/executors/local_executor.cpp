#include "scheduler/executors/local_executor.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/log.hpp"
#include "settings/resources.hpp"
#include "workspace/claim.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
constexpr auto between_touches = std::chrono::seconds(2);
constexpr auto until_sigkill = std::chrono::seconds(5);

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
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
    for (const pid_t pid : pids) ::kill(pid, SIGKILL);
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

std::size_t gpus_of(const ResourceSettings& resources) {
  return static_cast<std::size_t>(resources.ranks) * static_cast<std::size_t>(resources.gpus);
}

// As CUDA reads the variable: names up to the first that is none ("-1").
std::vector<std::string> visible_gpus() {
  std::vector<std::string> names;
  std::error_code error;
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  if (visible == nullptr) {
    while (fs::exists("/dev/nvidia" + std::to_string(names.size()), error))
      names.push_back(std::to_string(names.size()));
    return names;
  }
  std::istringstream list(visible);
  for (std::string name; std::getline(list, name, ',') && !name.empty() && name.front() != '-';) names.push_back(name);
  return names;
}

}  // namespace

LocalCapacity this_machine() {
  LocalCapacity capacity;
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) capacity.cores = std::max(1, CPU_COUNT(&cores));
  capacity.memory_bytes = memory_limit();
  capacity.gpus = visible_gpus();
  return capacity;
}

LocalExecutor::LocalExecutor(const Workspace& workspace, fs::path worker, LocalCapacity capacity, std::string mpirun)
    : workspace_(workspace),
      worker_(std::move(worker)),
      capacity_(capacity),
      mpirun_(std::move(mpirun)),
      claim_(process_claim()) {}

LocalExecutor::~LocalExecutor() {
  end_children();
  const auto deadline = std::chrono::steady_clock::now() + until_sigkill;
  for (auto& [id, entry] : running_)
    while (!entry.process.poll() && std::chrono::steady_clock::now() < deadline)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
  std::error_code ignored;
  fs::remove(uses_file(), ignored);
}  // ~Process kills the rest

std::vector<Job> LocalExecutor::jobs() {
  reserved_.clear();
  elsewhere_is_due_ = true;
  const auto now = std::chrono::steady_clock::now();
  const bool touch = now - touched_ > between_touches;
  if (touch) touched_ = now;
  std::vector<Job> jobs;
  for (auto& [id, entry] : running_) {
    const auto result = entry.process.poll();
    Job job{.stage = id.first, .attempt = id.second, .asked_to_stop = entry.asked_to_stop};
    if (result) {
      job.state = JobState::ended;
      job.exit_code = result->exit_code;
      job.signal = result->signal;
      job.cause = entry.killed ? EndCause::cancelled : result->signal != 0 ? EndCause::signalled : EndCause::exited;
    } else if (touch) {
      workspace_.touch_claim(id.first, id.second);
    }
    jobs.push_back(std::move(job));
  }
  return jobs;
}

std::vector<LocalExecutor::Use> LocalExecutor::uses() {
  if (std::exchange(elsewhere_is_due_, false)) read_elsewhere();
  std::vector<Use> uses = elsewhere_;
  for (auto& [id, entry] : running_)
    if (!entry.process.poll()) uses.push_back(entry.use);
  return uses;
}

bool LocalExecutor::reserve(const ResourceSettings& wanted) {
  long cores = 0;
  std::size_t gpus = 0;
  std::uint64_t memory = 0;
  const auto add = [&](const ResourceSettings& resources) {
    cores += static_cast<long>(resources.ranks) * resources.threads;
    gpus += gpus_of(resources);
    memory += memory_in_bytes(resources.memory);
  };
  const auto used = uses();
  for (const auto& use : used) add(use.resources);
  for (const auto& resources : reserved_) add(resources);
  add(wanted);
  const bool alone = used.empty() && reserved_.empty();
  if (!alone && (cores > capacity_.cores || memory > capacity_.memory_bytes || gpus > capacity_.gpus.size()))
    return false;
  reserved_.push_back(wanted);
  return true;
}

std::vector<Json> LocalExecutor::prepare(const std::vector<StartRequest>& requests) {
  std::vector<std::string> free = capacity_.gpus;
  for (const auto& use : uses())
    std::erase_if(free, [&](const std::string& gpu) {
      return std::find(use.gpus.begin(), use.gpus.end(), gpu) != use.gpus.end();
    });
  std::vector<Json> claims;
  for (const auto& request : requests) {
    claims.push_back(claim_);
    const auto count = static_cast<std::ptrdiff_t>(gpus_of(request.resources));
    if (count == 0 || count > std::ssize(free)) continue;
    claims.back()["gpus"] = std::vector<std::string>(free.begin(), free.begin() + count);
    free.erase(free.begin(), free.begin() + count);
  }
  return claims;
}

bool LocalExecutor::may_be_running(const Json& claim, double age_s) const {
  const bool own = std::all_of(claim_.items().begin(), claim_.items().end(), [&](const auto& field) {
    return claim.contains(field.key()) && claim[field.key()] == field.value();
  });
  return !own && claim_holds(claim, age_s);
}

fs::path LocalExecutor::uses_file() const {
  const std::string name = claim_.at("host").get<std::string>() + "-" + std::to_string(getpid()) + ".json";
  return workspace_.root() / "local" / name;
}

void LocalExecutor::publish_uses() {
  Json list = Json::array();
  for (auto& [id, entry] : running_)
    if (!entry.process.poll()) list.push_back({{"resources", to_json(entry.use.resources)}, {"gpus", entry.use.gpus}});
  std::error_code ignored;
  if (list.empty()) {
    fs::remove(uses_file(), ignored);
    return;
  }
  Json file = claim_;
  file["uses"] = std::move(list);
  fs::create_directories(uses_file().parent_path(), ignored);
  write_json(uses_file(), file);
}

void LocalExecutor::read_elsewhere() {
  elsewhere_.clear();
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(workspace_.root() / "local", error)) {
    const std::string name = entry.path().filename().string();
    if (name.front() == '.' || entry.path() == uses_file()) continue;
    try {
      const Json file = read_json(entry.path());
      if (file.at("host") != claim_.at("host")) continue;
      if (!claim_holds(file, 0)) {
        fs::remove(entry.path(), error);
        continue;
      }
      for (const auto& use : file.at("uses"))
        elsewhere_.push_back({resource_settings_from_json(use.at("resources"), name), use.at("gpus")});
    } catch (const std::exception& problem) {  // gone meanwhile, or of another version: its room is not known
      log_warning("scheduler: " + entry.path().string() + ": " + problem.what());
    }
  }
}

std::vector<std::string> LocalExecutor::start(const std::vector<StartRequest>& requests,
                                              const std::vector<Json>& claims) {
  std::vector<std::string> refusals;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    try {
      start_one(requests[i], claims[i]);
      refusals.emplace_back();
    } catch (const Error& error) {
      refusals.emplace_back(error.what());
    }
  }
  reserved_.clear();
  publish_uses();
  return refusals;
}

void LocalExecutor::start_one(const StartRequest& request, const Json& claim) {
  const PlannedStage& stage = *request.stage;
  if (request.attempt > 1) end_survivors(workspace_, stage.key);
  const ResourceSettings& resources = request.resources;
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
                       std::to_string(request.attempt),
                       "--threads",
                       std::to_string(resources.threads)};
  options.environment = {{"OMP_NUM_THREADS", std::to_string(resources.threads)},
                         {"FILO_SERVER_FILE", workspace_.server_file().string()}};
  const auto gpus = claim.value("gpus", std::vector<std::string>());
  if (resources.gpus > 0) {
    options.arguments.push_back("--gpus");
    options.arguments.push_back(std::to_string(resources.gpus));
  }
  if (!gpus.empty()) {
    std::string& visible = options.environment["CUDA_VISIBLE_DEVICES"];
    for (const auto& gpu : gpus) visible += (visible.empty() ? "" : ",") + gpu;
  }
  if (geteuid() == 0) {
    options.environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1";
    options.environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
  }
  options.output_file = workspace_.log_file(stage.key, request.attempt);
  running_.emplace(std::make_pair(stage.key, request.attempt), Running{Process(options), {resources, gpus}});
}

LocalExecutor::Running* LocalExecutor::find(const std::string& stage, int attempt) {
  const auto found = running_.find({stage, attempt});
  return found == running_.end() || found->second.process.poll() ? nullptr : &found->second;
}

void LocalExecutor::stop(const std::string& stage, int attempt) {
  Running* entry = find(stage, attempt);
  if (entry == nullptr || entry->asked_to_stop) return;
  entry->asked_to_stop = true;
  ::kill(entry->process.pid(), SIGUSR2);
}

void LocalExecutor::kill(const std::string& stage, int attempt) {
  Running* entry = find(stage, attempt);
  if (entry == nullptr) return;
  entry->asked_to_stop = entry->killed = true;
  terminate(*entry);
}

void LocalExecutor::terminate(Running& entry) {
  const auto now = std::chrono::steady_clock::now();
  if (!entry.terminated) {
    entry.terminated = now;
    ::kill(entry.process.pid(), SIGTERM);
  } else if (now - *entry.terminated > until_sigkill) {
    entry.process.signal_group(SIGKILL);
  }
}

void LocalExecutor::forget(const std::string& stage, int attempt) {
  if (running_.erase({stage, attempt}) > 0) publish_uses();
}

Executor::Children LocalExecutor::children() {
  Children children;
  for (auto& [id, entry] : running_) ++(entry.process.poll() ? children.ended : children.running);
  return children;
}

void LocalExecutor::stop_children() {
  for (auto& [id, entry] : running_) stop(id.first, id.second);
}

void LocalExecutor::end_children() {
  for (auto& [id, entry] : running_)
    if (!entry.process.poll()) terminate(entry);
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
