#include "scheduler/executors/local_executor.hpp"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/log.hpp"
#include "settings/resources.hpp"
#include "workspace/claim.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
constexpr auto most_signal_lead = std::chrono::seconds(120);
constexpr auto until_sigkill = std::chrono::seconds(5);
constexpr auto between_looks_for_ranks = std::chrono::seconds(1);
constexpr auto until_deserted = std::chrono::seconds(10);

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

}  // namespace

LocalExecutor::LocalExecutor(const Workspace& workspace, fs::path worker, LocalCapacity capacity, std::string mpirun)
    : workspace_(workspace),
      worker_(std::move(worker)),
      mpirun_(std::move(mpirun)),
      claim_(process_claim()),
      slots_(workspace, std::move(capacity), claim_) {}

LocalExecutor::~LocalExecutor() {
  LocalExecutor::end_children();  // its own, whatever is derived from it
  const auto deadline = std::chrono::steady_clock::now() + until_sigkill;
  for (auto& [id, entry] : running_)
    while (!entry.process.poll() && std::chrono::steady_clock::now() < deadline)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
}  // ~Process kills the rest

std::vector<Job> LocalExecutor::jobs() {
  slots_.begin();
  std::vector<Job> jobs;
  for (auto& [id, entry] : running_) {
    const auto result = entry.process.poll();
    Job job{.stage = id.first, .attempt = id.second, .asked_to_stop = entry.asked_to_stop};
    if (result) {
      job.state = JobState::ended;
      job.exit_code = result->exit_code;
      job.signal = result->signal;
      job.cause = entry.killed          ? EndCause::cancelled
                  : entry.timed_out     ? EndCause::timeout
                  : entry.deserted      ? EndCause::vanished
                  : result->signal != 0 ? EndCause::signalled
                                        : EndCause::exited;
    }
    jobs.push_back(std::move(job));
  }
  return jobs;
}

// What of it runs now.
std::vector<LocalUse> LocalExecutor::uses() {
  std::vector<LocalUse> uses;
  for (auto& [id, entry] : running_)
    if (!entry.process.poll()) uses.push_back(entry.use);
  return uses;
}

bool LocalExecutor::reserve(const ResourceSettings& wanted) { return slots_.reserve(wanted, uses()); }

std::vector<Json> LocalExecutor::prepare(const std::vector<StartRequest>& requests) {
  std::vector<Json> claims;
  for (const auto& gpus : slots_.free_gpus(requests, uses())) {
    claims.push_back(claim_);
    if (!gpus.empty()) claims.back()["gpus"] = gpus;
  }
  return claims;
}

bool LocalExecutor::may_be_running(const Json& claim, const std::function<double()>& age_s) const {
  const bool own = std::all_of(claim_.items().begin(), claim_.items().end(), [&](const auto& field) {
    return claim.contains(field.key()) && claim[field.key()] == field.value();
  });
  return !own && claim_holds(claim, age_s);
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
  slots_.release();
  slots_.publish(uses());
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
  for (const auto& option : worker_options(resources)) options.arguments.push_back(option);
  const auto gpus = claim.value("gpus", std::vector<std::string>());
  if (!gpus.empty()) {
    std::string& visible = options.environment["CUDA_VISIBLE_DEVICES"];
    for (const auto& gpu : gpus) visible += (visible.empty() ? "" : ",") + gpu;
  }
  if (geteuid() == 0) {
    options.environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1";
    options.environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
  }
  options.output_file = workspace_.log_file(stage.key, request.attempt);
  Running started{Process(options), {resources, gpus}};
  give_time(started, stage.kind);
  running_.emplace(std::make_pair(stage.key, request.attempt), std::move(started));
  heartbeat_.add(workspace_.claim_file(stage.key, request.attempt));
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

// As a cluster does: a signal with time left for a snapshot, where the stage keeps one, and the end when the time is
// over. The default time is no wish of the user's: what runs for days here is left alone.
void LocalExecutor::give_time(Running& entry, StageKind kind) {
  if (entry.use.resources.time == ResourceSettings().time) return;
  const std::chrono::milliseconds limit = std::chrono::seconds(time_in_seconds(entry.use.resources.time));
  entry.end_at = std::chrono::steady_clock::now() + limit;
  if (kind == StageKind::train || kind == StageKind::features)
    entry.warn_at = *entry.end_at - std::min<std::chrono::milliseconds>(most_signal_lead, limit / 2);
}

void LocalExecutor::keep_to_its_time(Running& entry) {
  const auto now = std::chrono::steady_clock::now();
  if (entry.end_at && now > *entry.end_at) {
    entry.timed_out = true;
    terminate(entry);
  } else if (entry.warn_at && now > *entry.warn_at) {
    entry.warn_at.reset();
    ::kill(entry.process.pid(), SIGUSR2);
  }
}

void LocalExecutor::end_if_deserted(const std::string& key, Running& entry) const {
  const auto now = std::chrono::steady_clock::now();
  const auto workers = workers_on(workspace_, key);
  if (std::ranges::any_of(workers, [&](pid_t pid) { return pid != entry.process.pid(); })) {
    entry.seen_with_ranks = now;
  } else if (entry.seen_with_ranks && now - *entry.seen_with_ranks > until_deserted) {
    log_warning("stage " + key + ": mpirun (process " + std::to_string(entry.process.pid()) +
                ") lives on although its ranks are gone: it is ended, and the stage started again");
    entry.deserted = true;
    entry.process.signal_group(SIGKILL);
  }
}

void LocalExecutor::forget(const std::string& stage, int attempt) {
  if (running_.erase({stage, attempt}) == 0) return;
  heartbeat_.remove(workspace_.claim_file(stage, attempt));
  slots_.publish(uses());
}

Executor::Children LocalExecutor::children() {
  Children children;
  const auto now = std::chrono::steady_clock::now();
  const bool looks = now - looked_for_ranks_ > between_looks_for_ranks;
  if (looks) looked_for_ranks_ = now;
  for (auto& [id, entry] : running_) {
    const bool has_ended = entry.process.poll().has_value();
    if (!has_ended) keep_to_its_time(entry);
    if (!has_ended && looks) end_if_deserted(id.first, entry);
    ++(has_ended ? children.ended : children.running);
  }
  return children;
}

void LocalExecutor::stop_children() {
  for (auto& [id, entry] : running_) stop(id.first, id.second);
}

void LocalExecutor::end_children() {
  for (auto& [id, entry] : running_)
    if (!entry.process.poll()) terminate(entry);
}

}  // namespace filo
