#include "scheduler/control/reconcile.hpp"

#include <algorithm>
#include <csignal>
#include <unordered_map>

#include "base/error.hpp"
#include "settings/resources.hpp"
#include "workspace/artifacts.hpp"
#include "workspace/claim.hpp"
#include "workspace/events.hpp"

namespace filo {
namespace {

constexpr int exit_stopped_early = static_cast<int>(ExitCode::stopped_early);

// The message of the attempt's own `failed` event, else what the system says about its end.
std::string reason_of_failure(const Workspace& workspace, const Job& job, const ResourceSettings& had) {
  for (const auto& event : EventReader(workspace.events_file(job.stage, job.attempt)).read())
    if (event.at("event") == "failed" && event.contains("message") && event["message"].is_string())
      return event["message"].get<std::string>();
  if (job.cause == EndCause::signalled && job.signal == SIGKILL)
    return "killed (signal 9), as by a system that is short of memory; it had asked for " + had.memory;
  if (job.cause == EndCause::signalled) return "ended by signal " + std::to_string(job.signal);
  if (job.exit_code != 0) return "exit code " + std::to_string(job.exit_code);
  return "ended with exit code 0 but without a valid result.json of this attempt";
}

std::string at(const Job& job) { return job.where.empty() ? "" : " (" + job.where + ")"; }

ResourceSettings resources_of_next(const Executor& executor, const PlannedStage& stage, const AttemptCounts& counts) {
  return executor.allowed(grown(stage.resources, counts.timeouts, counts.out_of_memory));
}

AttemptOutcome judge(const Workspace& workspace, const PlannedStage& stage, const StageRecord& facts,
                     const Executor& executor, const Job& job) {
  const std::string cause = to_string(job.cause);
  if (facts.done) return {"done", cause, ""};
  if (facts.request && facts.request->action == "cancel") return {"cancelled", cause, facts.request->reason};
  if (job.cause == EndCause::exited && job.exit_code == exit_stopped_early)
    return {"stopped", cause, "stopped early with a snapshot"};
  if (job.asked_to_stop) return {"stopped", cause, "stopped on request"};
  const ResourceSettings had = resources_of_next(executor, stage, facts.counts);
  switch (job.cause) {
    case EndCause::timeout:
      return {"failed", cause, "ran longer than its time of " + had.time + at(job)};
    case EndCause::out_of_memory:
      return {"failed", cause, "used more than its memory of " + had.memory + at(job)};
    case EndCause::node_failure:
      return {"lost", cause, "the node failed" + at(job)};
    case EndCause::preempted:
      return {"lost", cause, "preempted" + at(job)};
    case EndCause::vanished:
      return {"lost", cause, "the job vanished" + at(job)};
    case EndCause::cancelled:
      return {"cancelled", cause, "cancelled from outside" + at(job)};
    case EndCause::exited:
    case EndCause::signalled:
      break;
  }
  return {"failed", cause, reason_of_failure(workspace, job, had)};
}

StageRecord facts_of(const Workspace& workspace, StageIndex* index, const PlannedStage& stage) {
  return index != nullptr ? index->record(stage.key, stage.kind) : read_stage_record(workspace, stage.key, stage.kind);
}

std::string who(const Json& claim) {
  const std::string executor = claim.value("executor", std::string("local"));
  if (executor != "local") return executor;
  return claim.value("host", std::string("another host")) + ", process " + std::to_string(claim.value("pid", 0));
}

// The state of a stage whose newest attempt does not run.
class Judge {
 public:
  explicit Judge(std::size_t stages) { known_.reserve(stages); }

  void note(const PlannedStage& stage, StageState state) { known_[key_number(stage.key)] = {&stage, state}; }

  // queued = may be started.
  void judge(const PlannedStage& stage, const StageRecord& facts, StageStatus& status) const {
    status.counts = facts.counts;
    status.reason = facts.last_reason;
    if (facts.done) return settle(status, StageState::done, "");
    if (facts.request) {
      const bool cancel = facts.request->action == "cancel";
      return settle(status, cancel ? StageState::cancelled : StageState::stopped, facts.request->reason);
    }
    if (facts.cancelled) return settle(status, StageState::cancelled, facts.last_reason);
    if (const std::string why = given_up(facts, stage.resources.attempts); !why.empty())
      return settle(status, StageState::failed, why);
    for (const auto& input : stage.inputs) {
      const auto& [needed, state] = known_.at(key_number(input));
      if (is_settled(state) && state != StageState::done)
        return settle(
            status, StageState::blocked,
            "needs " + needed->label + " (" + input + "), which " +
                (state == StageState::failed ? "failed"
                                             : (state == StageState::blocked ? "is " : "was ") + to_string(state)));
      if (state != StageState::done) {
        status.state = StageState::waiting;
        return;
      }
    }
    status.state = StageState::queued;
  }

 private:
  static void settle(StageStatus& status, StageState state, const std::string& reason) {
    status.state = state;
    status.reason = reason;
  }

  std::unordered_map<std::uint64_t, std::pair<const PlannedStage*, StageState>> known_;
};

class Pass {
 public:
  Pass(const Workspace& workspace, const std::vector<StageAssignment>& assignments,
       const std::vector<Executor*>& executors, const ReconcileOptions& options)
      : workspace_(workspace), assignments_(assignments), options_(options), judge_(assignments.size()) {
    for (Executor* executor : executors) ask(executor);
  }

  PassResult run() {
    result_.statuses.reserve(assignments_.size());
    for (const auto& assignment : assignments_) {
      result_.statuses.push_back(step(assignment));
      judge_.note(*assignment.stage, result_.statuses.back().state);
    }
    for (auto& [executor, asked] : asked_) start(*executor, asked.batch);
    return std::move(result_);
  }

 private:
  struct Known {
    Executor* executor;
    Job job;
  };
  struct Batch {
    std::vector<StartRequest> requests;
    std::vector<std::size_t> places;  // in result_.statuses
  };
  struct Asked {
    bool answered = false;
    Batch batch;
  };

  void ask(Executor* executor) {
    Asked& asked = asked_[executor];
    std::vector<Known> others;  // older attempts of a stage
    try {
      for (const auto& job : executor->jobs()) {
        const auto [known, first] = jobs_.try_emplace(job.stage, Known{executor, job});
        if (first) continue;
        others.push_back({executor, job});
        if (known->second.job.attempt < job.attempt) std::swap(known->second, others.back());
      }
      asked.answered = true;
    } catch (const Error& error) {
      result_.troubles.push_back(executor->name() + ": " + error.what());
    }
    for (const auto& [owner, job] : others) discard(*owner, job);
  }

  // A copy of an attempt that a newer one has taken the place of.
  static void discard(Executor& executor, const Job& job) {
    if (job.state == JobState::ended)
      executor.forget(job.stage, job.attempt);
    else
      executor.kill(job.stage, job.attempt);
  }

  StageStatus step(const StageAssignment& assignment) {
    const PlannedStage& stage = *assignment.stage;
    StageRecord facts = facts_of(workspace_, options_.index, stage);
    StageStatus status{.key = stage.key, .attempt = facts.attempt};
    if (is_underway(stage, facts, status)) {
      status.counts = facts.counts;
      if (assignment.concurrency != nullptr) ++underway_[assignment.concurrency];
      return status;
    }
    judge_.judge(stage, facts, status);
    status.seconds = facts.seconds;
    if (status.state == StageState::queued) try_start(assignment, facts, status);
    return status;
  }

  // Whether the newest attempt runs, here or elsewhere; records its end when it does not and nobody has.
  bool is_underway(const PlannedStage& stage, StageRecord& facts, StageStatus& status) {
    const auto known = jobs_.find(stage.key);
    const bool listed = known != jobs_.end() && known->second.job.attempt == facts.attempt;
    if (known != jobs_.end() && known->second.job.attempt < facts.attempt)
      discard(*known->second.executor, known->second.job);
    if (listed && known->second.job.state != JobState::ended) {
      const Job& job = known->second.job;
      status.state = job.state == JobState::running ? StageState::running : StageState::queued;
      status.where = job.where;
      if (facts.request) obey(*facts.request, *known->second.executor, job, status);
      return true;
    }
    if (facts.attempt == 0) return false;
    if (facts.ended) {  // listed: cut short between recording its end and forgetting it
      if (listed) known->second.executor->forget(stage.key, facts.attempt);
      return false;
    }
    if (listed) {
      record(stage, facts, judge(workspace_, stage, facts, *known->second.executor, known->second.job));
      known->second.executor->forget(stage.key, facts.attempt);
      return false;
    }
    const auto claim = workspace_.claim(stage.key, facts.attempt);
    if (claim && holds(stage.key, facts.attempt, *claim)) {
      status.state = StageState::running;
      status.reason =
          "run by " + who(*claim) + (facts.request ? ", which has yet to " + facts.request->action + " it" : "");
      return true;
    }
    const std::string number = std::to_string(facts.attempt);
    const std::string vanished = to_string(EndCause::vanished);
    if (facts.done)
      record(stage, facts, {"done", vanished, ""});
    else if (facts.request && facts.request->action == "cancel")
      record(stage, facts, {"cancelled", vanished, facts.request->reason});
    else
      record(
          stage, facts,
          {"lost", vanished,
           claim ? "the process that ran attempt " + number + " is gone" : "attempt " + number + " was never started"});
    return false;
  }

  // Whether the executor that wrote the claim may still run the attempt although nobody lists it.
  bool holds(const std::string& key, int attempt, const Json& claim) const {
    const std::string name = claim.value("executor", std::string("local"));
    for (const auto& [executor, asked] : asked_)
      if (executor->name() == name)
        return !asked.answered || executor->may_be_running(claim, workspace_.claim_age_s(key, attempt));
    return claim_holds(claim, workspace_.claim_age_s(key, attempt));
  }

  void obey(const StageRequest& request, Executor& executor, const Job& job, StageStatus& status) {
    const bool cancel = request.action == "cancel";
    if (cancel)
      executor.kill(job.stage, job.attempt);
    else
      executor.stop(job.stage, job.attempt);
    options_.at_point("stop asked");
    if (!job.asked_to_stop)
      act(job.stage, cancel ? "cancelled: " + request.reason : "asked to stop: " + request.reason);
    status.reason = (cancel ? "being cancelled: " : "being stopped: ") + request.reason;
  }

  void record(const PlannedStage& stage, StageRecord& facts, const AttemptOutcome& end) {
    if (end.outcome == "done" && stage.kind == StageKind::train) collect_checkpoint(workspace_, stage.key);
    workspace_.write_outcome(stage.key, facts.attempt, end);
    options_.at_point("end recorded");
    act(stage.key,
        "attempt " + std::to_string(facts.attempt) + " " + end.outcome + (end.reason.empty() ? "" : ": " + end.reason));
    facts = read_stage_record(workspace_, stage.key, stage.kind);
  }

  void try_start(const StageAssignment& assignment, const StageRecord& facts, StageStatus& status) {
    if (!options_.start_new || assignment.executor == nullptr) return;
    Asked& asked = asked_.at(assignment.executor);
    if (!asked.answered) return;
    if (assignment.concurrency != nullptr && underway_[assignment.concurrency] >= assignment.concurrency->limit) return;
    StartRequest request{.stage = assignment.stage,
                         .resources = resources_of_next(*assignment.executor, *assignment.stage, facts.counts)};
    if (!assignment.executor->reserve(request.resources)) return;
    if (assignment.concurrency != nullptr) ++underway_[assignment.concurrency];
    request.attempt = status.attempt = workspace_.make_attempt(status.key);
    options_.at_point("attempt made");
    status.state = StageState::running;
    asked.batch.requests.push_back(std::move(request));
    asked.batch.places.push_back(result_.statuses.size());
  }

  void start(Executor& executor, const Batch& batch) {
    if (batch.requests.empty()) return;
    const auto claims = executor.prepare(batch.requests);
    for (std::size_t i = 0; i < claims.size(); ++i)
      workspace_.write_claim(batch.requests[i].stage->key, batch.requests[i].attempt, claims[i]);
    options_.at_point("claimed");
    const auto refusals = executor.start(batch.requests, claims);
    for (std::size_t i = 0; i < refusals.size(); ++i) {
      StageStatus& status = result_.statuses[batch.places[i]];
      if (refusals[i].empty()) {
        if (executor.state_once_started() == JobState::pending) {
          status.state = StageState::queued;
          status.where = "handed to " + executor.name();
        }
        act(status.key, "started attempt " + std::to_string(status.attempt));
        continue;
      }
      workspace_.write_outcome(status.key, status.attempt, {"failed", to_string(EndCause::exited), refusals[i]});
      act(status.key, "attempt " + std::to_string(status.attempt) + " could not be started: " + refusals[i]);
      ++status.counts.failures;
      status.state = StageState::queued;
      status.reason = refusals[i];
    }
    options_.at_point("started");
  }

  void act(const std::string& stage, const std::string& text) { result_.actions.push_back({stage, text}); }

  const Workspace& workspace_;
  const std::vector<StageAssignment>& assignments_;
  const ReconcileOptions& options_;
  Judge judge_;
  std::unordered_map<Executor*, Asked> asked_;
  std::unordered_map<std::string, Known> jobs_;
  std::unordered_map<const ConcurrencyLimit*, int> underway_;
  PassResult result_;
};

}  // namespace

std::string to_string(EndCause cause) {
  switch (cause) {
    case EndCause::exited:
      return "exited";
    case EndCause::signalled:
      return "signalled";
    case EndCause::timeout:
      return "timeout";
    case EndCause::out_of_memory:
      return "out_of_memory";
    case EndCause::node_failure:
      return "node_failure";
    case EndCause::preempted:
      return "preempted";
    case EndCause::cancelled:
      return "cancelled";
    case EndCause::vanished:
      return "vanished";
  }
  return "";
}

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
    case StageState::stopped:
      return "stopped";
    case StageState::cancelled:
      return "cancelled";
  }
  return "";
}

PassResult reconcile(const Workspace& workspace, const std::vector<StageAssignment>& assignments,
                     const std::vector<Executor*>& executors, const ReconcileOptions& options) {
  const FileDescriptor lock = workspace.lock();
  return Pass(workspace, assignments, executors, options).run();
}

std::vector<StageStatus> reconcile(const Workspace& workspace, const Plan& plan, Executor& executor,
                                   const ReconcileOptions& options) {
  std::vector<StageAssignment> assignments;
  for (const auto& stage : plan.stages) assignments.push_back({&stage, &executor, nullptr});
  return reconcile(workspace, assignments, {&executor}, options).statuses;
}

std::vector<StageStatus> observe(const Workspace& workspace, const Plan& plan, StageIndex* index) {
  Judge judge(plan.stages.size());
  std::vector<StageStatus> statuses;
  for (const auto& stage : plan.stages) {
    const StageRecord facts = facts_of(workspace, index, stage);
    StageStatus status{.key = stage.key, .attempt = facts.attempt};
    judge.judge(stage, facts, status);
    status.seconds = facts.seconds;
    if (facts.attempt > 0 && !facts.ended && !facts.done) {
      const auto claim = workspace.claim(stage.key, facts.attempt);
      if (claim && claim_holds(*claim, workspace.claim_age_s(stage.key, facts.attempt)))
        status.state = StageState::running;
      else
        status.reason = "attempt " + std::to_string(facts.attempt) + " no longer runs";
    }
    judge.note(stage, status.state);
    statuses.push_back(std::move(status));
  }
  return statuses;
}

void retry_all(const Workspace& workspace, const Plan& plan) {
  const bool searches = !plan.searches.empty();
  for (const auto& stage : plan.stages) {
    if (workspace.result(stage.key, stage.kind)) continue;
    const auto request = workspace.request(stage.key);
    if (!searches || !request || request->action != "stop") workspace.retry(stage.key);
  }
}

bool all_done(const std::vector<StageStatus>& statuses) {
  return std::all_of(statuses.begin(), statuses.end(),
                     [](const auto& status) { return status.state == StageState::done; });
}

bool is_settled(StageState state) {
  return state != StageState::waiting && state != StageState::queued && state != StageState::running;
}

bool is_settled(const std::vector<StageStatus>& statuses) {
  return std::all_of(statuses.begin(), statuses.end(), [](const auto& status) { return is_settled(status.state); });
}

}  // namespace filo
