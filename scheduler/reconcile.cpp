#include "scheduler/reconcile.hpp"

#include <algorithm>
#include <unordered_map>

#include "base/error.hpp"

namespace filo {
namespace {

constexpr int exit_stopped_early = static_cast<int>(ExitCode::stopped_early);

// The message of the attempt's own `failed` event, else what the system says about its end.
std::string reason_of_failure(const Workspace& workspace, const Job& job) {
  for (const auto& event : EventReader(workspace.events_file(job.stage, job.attempt)).poll())
    if (event.at("event") == "failed" && event.contains("message") && event["message"].is_string())
      return event["message"].get<std::string>();
  if (job.signal != 0) return "ended by signal " + std::to_string(job.signal);
  if (job.exit_code != 0) return "exit code " + std::to_string(job.exit_code);
  return "ended with exit code 0 but without a valid result.json of this attempt";
}

AttemptEnd judge(const Workspace& workspace, const PlannedStage& stage, const Job& job) {
  const auto result = workspace.result(stage.key, stage.kind);
  if (result && result->attempt == job.attempt) return {"done", ""};
  if (job.exit_code == exit_stopped_early && job.signal == 0) return {"stopped", "stopped early with a snapshot"};
  if (job.asked_to_stop) return {"stopped", "stopped on request"};
  return {"failed", reason_of_failure(workspace, job)};
}

// What the attempts of this round came to.
struct History {
  int failures = 0;
  int requeues = 0;
  std::string last_failure;
  std::string last_reason;
};

History history_of(const Workspace& workspace, const std::string& key, int newest, int forgiven) {
  History history;
  for (int attempt = forgiven + 1; attempt <= newest; ++attempt) {
    const auto end = workspace.end(key, attempt);
    if (!end) continue;
    history.last_reason = end->reason;
    if (end->outcome == "failed" || end->outcome == "done") {  // "done" whose result.json is gone or broken since
      ++history.failures;
      history.last_failure = end->outcome == "done" ? "its result.json is no longer valid" : end->reason;
    } else {
      ++history.requeues;
    }
  }
  return history;
}

class Pass {
 public:
  Pass(const Workspace& workspace, const Plan& plan, Executor& executor, const ReconcileOptions& options)
      : workspace_(workspace), plan_(plan), executor_(executor), options_(options) {
    for (const auto& job : executor.jobs()) {
      const auto known = jobs_.find(job.stage);
      if (known == jobs_.end() || known->second.attempt < job.attempt) jobs_[job.stage] = job;
    }
  }

  std::vector<StageStatus> run() {
    std::vector<StageStatus> statuses;
    statuses.reserve(plan_.stages.size());
    for (const auto& stage : plan_.stages) {
      statuses.push_back(step(stage));
      state_of_[stage.key] = statuses.back().state;
    }
    return statuses;
  }

 private:
  StageStatus step(const PlannedStage& stage) {
    StageStatus status{.key = stage.key, .attempt = workspace_.newest_attempt(stage.key)};
    if (is_running(stage, status)) {
      status.state = StageState::running;
      return status;
    }
    if (workspace_.result(stage.key, stage.kind)) {
      status.state = StageState::done;
      return status;
    }
    const auto forgiven = options_.forgiven.find(stage.key);
    const History history =
        history_of(workspace_, stage.key, status.attempt, forgiven == options_.forgiven.end() ? 0 : forgiven->second);
    status.failures = history.failures;
    status.reason = history.last_reason;
    if (history.failures >= options_.failure_limit || history.requeues >= options_.requeue_limit) {
      status.state = StageState::failed;
      if (history.failures >= options_.failure_limit)
        status.reason = history.last_failure;
      else
        status.reason = "stopped or lost " + std::to_string(history.requeues) + " times";
      return status;
    }
    for (const auto& input : stage.inputs) {
      const StageState state = state_of_.at(input);
      if (state == StageState::failed || state == StageState::blocked) {
        status.state = StageState::blocked;
        status.reason = "needs " + plan_.stage(input).label + " (" + input + "), which " +
                        (state == StageState::failed ? "failed" : "is blocked");
        return status;
      }
      if (state != StageState::done) return status;
    }
    status.state = StageState::queued;
    if (options_.start_new && executor_.has_room(stage.resources)) start(stage, status);
    return status;
  }

  // Whether the newest attempt runs, here or elsewhere; records its end when it does not and nobody has.
  bool is_running(const PlannedStage& stage, StageStatus& status) {
    if (status.attempt == 0) return false;
    const auto job = jobs_.find(stage.key);
    const bool ours = job != jobs_.end() && job->second.attempt == status.attempt;
    if (ours && job->second.running) {
      workspace_.touch_claim(stage.key, status.attempt);
      return true;
    }
    if (workspace_.end(stage.key, status.attempt)) {
      if (ours) executor_.forget(stage.key, status.attempt);  // cut short between recording its end and this
      return false;
    }
    if (ours) {
      workspace_.write_end(stage.key, status.attempt, judge(workspace_, stage, job->second));
      options_.at_point("ended");
      executor_.forget(stage.key, status.attempt);
      return false;
    }
    const auto claim = workspace_.claim(stage.key, status.attempt);
    if (claim && !is_own(*claim) &&
        executor_.may_be_running(*claim, workspace_.claim_age_s(stage.key, status.attempt))) {
      status.reason = "run by " + claim->value("host", std::string("another host")) + ", process " +
                      std::to_string(claim->value("pid", 0));
      return true;
    }
    const bool finished = workspace_.result(stage.key, stage.kind).has_value();
    workspace_.write_end(
        stage.key, status.attempt,
        finished ? AttemptEnd{"done", ""}
                 : AttemptEnd{"lost", "the process that ran attempt " + std::to_string(status.attempt) + " is gone"});
    options_.at_point("ended");
    return false;
  }

  // Claimed by this very process, which has no such job: the pass was cut short between claim and start.
  bool is_own(const Json& claim) const { return claim == executor_.claim(); }

  void start(const PlannedStage& stage, StageStatus& status) {
    status.attempt = workspace_.make_attempt(stage.key);
    options_.at_point("attempt made");
    workspace_.write_claim(stage.key, status.attempt, executor_.claim());
    options_.at_point("claimed");
    try {
      executor_.start(stage, status.attempt);
    } catch (const Error& error) {
      workspace_.write_end(stage.key, status.attempt, {"failed", error.what()});
      ++status.failures;
      status.reason = error.what();
      return;
    }
    options_.at_point("started");
    status.state = StageState::running;
  }

  const Workspace& workspace_;
  const Plan& plan_;
  Executor& executor_;
  const ReconcileOptions& options_;
  std::unordered_map<std::string, Job> jobs_;
  std::unordered_map<std::string, StageState> state_of_;
};

bool settled(StageState state) {
  return state == StageState::done || state == StageState::failed || state == StageState::blocked;
}

}  // namespace

std::string to_string(StageState state) {
  switch (state) {
    case StageState::waiting:
      return "waiting";
    case StageState::queued:
      return "queued";
    case StageState::running:
      return "running";
    case StageState::done:
      return "done";
    case StageState::failed:
      return "failed";
    case StageState::blocked:
      return "blocked";
  }
  return "";
}

std::vector<StageStatus> reconcile(const Workspace& workspace, const Plan& plan, Executor& executor,
                                   const ReconcileOptions& options) {
  const FileDescriptor lock = workspace.lock();
  return Pass(workspace, plan, executor, options).run();
}

std::vector<StageStatus> observe(const Workspace& workspace, const Plan& plan, const Executor& executor) {
  std::vector<StageStatus> statuses;
  for (const auto& stage : plan.stages) {
    StageStatus status{.key = stage.key, .attempt = workspace.newest_attempt(stage.key)};
    const auto end = workspace.end(stage.key, status.attempt);
    const auto claim = status.attempt > 0 && !end ? workspace.claim(stage.key, status.attempt) : std::nullopt;
    if (workspace.result(stage.key, stage.kind)) {
      status.state = StageState::done;
    } else if (claim && executor.may_be_running(*claim, workspace.claim_age_s(stage.key, status.attempt))) {
      status.state = StageState::running;
    } else if (end && end->outcome == "failed") {
      status.state = StageState::failed;
      status.failures = history_of(workspace, stage.key, status.attempt, 0).failures;
      status.reason = end->reason;
    } else if (status.attempt > 0) {
      status.reason = end ? end->reason : "the process that ran attempt " + std::to_string(status.attempt) + " is gone";
    }
    statuses.push_back(std::move(status));
  }
  return statuses;
}

std::map<std::string, int> forgive_all(const Workspace& workspace, const Plan& plan) {
  std::map<std::string, int> forgiven;
  for (const auto& stage : plan.stages) forgiven[stage.key] = workspace.newest_attempt(stage.key);
  return forgiven;
}

bool all_done(const std::vector<StageStatus>& statuses) {
  return std::all_of(statuses.begin(), statuses.end(),
                     [](const auto& status) { return status.state == StageState::done; });
}

bool is_settled(const std::vector<StageStatus>& statuses) {
  return std::all_of(statuses.begin(), statuses.end(), [](const auto& status) { return settled(status.state); });
}

}  // namespace filo
