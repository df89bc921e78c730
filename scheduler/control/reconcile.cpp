#include "scheduler/control/reconcile.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <unordered_map>
#include <unordered_set>

#include "base/error.hpp"
#include "base/log.hpp"
#include "base/progress.hpp"
#include "scheduler/control/attempt_end.hpp"
#include "workspace/artifacts.hpp"
#include "workspace/claim.hpp"
#include "workspace/compaction.hpp"

namespace filo {
namespace {

std::string who(const Json& claim) {
  if (const std::string executor = text_of(claim, "executor", "local"); executor != "local") return executor;
  return text_of(claim, "host", "another host") + ", process " + claim.value("pid", Json()).dump();
}

// Of an attempt that no executor lists and nobody may be running.
AttemptOutcome end_of_unlisted(const StageRecord& record, bool was_claimed) {
  const std::string number = std::to_string(record.attempt);
  const std::string vanished = to_string(EndCause::vanished);
  if (record.done) return {"done", vanished, ""};
  if (record.request && record.request->action == "cancel") return {"cancelled", vanished, record.request->reason};
  return {
      "lost", vanished,
      was_claimed ? "the process that ran attempt " + number + " is gone" : "attempt " + number + " was never started"};
}

// Whether the attempt may have succeeded although no result is seen: it said so, or nobody knows how it ended.
bool may_have_succeeded(const Job& job) {
  return (job.cause == EndCause::exited && job.exit_code == 0) || job.cause == EndCause::vanished;
}

// From top to bottom: the executors are asked for their jobs, each stage is brought up to date, and what is ready is
// started in one batch for each executor.
class Pass {
 public:
  Pass(const Workspace& workspace, const std::vector<StageAssignment>& assignments,
       const std::vector<Executor*>& executors, const ReconcileOptions& options)
      : workspace_(workspace), assignments_(assignments), options_(options), rules_(assignments.size()) {
    std::vector<Executor*> in_order = executors;  // of their locks, the same in all processes
    std::sort(in_order.begin(), in_order.end(), [](auto* a, auto* b) { return a->name() < b->name(); });
    for (Executor* executor : in_order) ask(executor);
  }

  // Under the workspace's lock: what it decides is in the workspace afterwards.
  void decide() {
    result_.statuses.reserve(assignments_.size());
    Progress progress("a pass over the stages", assignments_.size());
    for (const auto& assignment : assignments_) {
      progress.at(result_.statuses.size());
      result_.statuses.push_back(step(assignment));
      rules_.note(*assignment.stage, result_.statuses.back().state);
    }
    for (auto& [executor, asked] : asked_) claim(*executor, asked.batch);
    options_.at_point("claimed");
  }

  // Starts what was claimed on the executors that have a lock of their own, or on the others.
  void start(bool with_own_lock) {
    for (auto& [executor, asked] : asked_)
      if (asked.lock.valid() == with_own_lock) start(*executor, asked.batch);
  }

  // Last, and without a lock: it may take a while. Cut short, the rest is made up for when the stage is done, or not at
  // all.
  void compact() {
    for (auto& [executor, asked] : asked_) asked.lock.reset();
    for (const auto& [stage, attempt, done] : ended_) {
      try {
        compact_log(workspace_, stage, attempt);
        if (!done) continue;
        for (int earlier = 1; earlier < attempt; ++earlier) compact_log(workspace_, stage, earlier);
        if (!keep_steps_.contains(stage)) compact_events(workspace_, stage);
      } catch (const std::exception& error) {
        log_warning(error.what());
      }
    }
  }

  PassResult result() { return std::move(result_); }

 private:
  struct Ended {
    std::string stage;
    int attempt;
    bool done;  // the stage
  };
  struct ListedJob {
    Executor* executor;
    Job job;
  };
  struct Batch {
    std::vector<StartRequest> requests;
    std::vector<std::size_t> places;  // in result_.statuses
    std::vector<Json> claims;
  };
  struct Asked {
    FileDescriptor lock;  // of the executor's own, where it has one
    bool answered = false;
    Batch batch;
  };

  void ask(Executor* executor) {
    Asked& asked = asked_[executor];
    asked.lock = executor->lock();
    std::vector<ListedJob> others;  // older attempts of a stage
    try {
      for (const auto& job : executor->jobs()) {
        const auto [known, first] = jobs_.try_emplace(job.stage, ListedJob{executor, job});
        if (first || known->second.job.attempt == job.attempt) continue;
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
    StageRecord record = record_of(workspace_, options_.index, stage);
    StageStatus status{.key = stage.key, .attempt = record.attempt};
    if (assignment.keeps_steps) keep_steps_.insert(stage.key);
    if (is_underway(assignment, record, status)) {
      status.counts = record.counts;
      if (assignment.concurrency != nullptr) ++underway_[assignment.concurrency];
      return status;
    }
    rules_.apply(stage, record, status);
    status.seconds = record.seconds;
    if (status.state == StageState::queued) try_start(assignment, record, status);
    return status;
  }

  // Whether the newest attempt runs, here or elsewhere; records its end when it does not and nobody has.
  bool is_underway(const StageAssignment& assignment, StageRecord& record, StageStatus& status) {
    const PlannedStage& stage = *assignment.stage;
    const ListedJob* listed = listed_job(stage.key, record.attempt);
    if (listed != nullptr && listed->job.state != JobState::ended) {
      follow(*listed, record, status);
      if (record.done) end_superfluous(stage, *listed, status);
      return true;
    }
    if (record.attempt == 0) return false;
    if (!record.ended && listed != nullptr) {
      if (awaits_result(stage, record, *listed, status)) return true;
      const AttemptOutcome end = end_of(workspace_, stage, record, *listed->executor, listed->job);
      listed->executor->judge(listed->job, end);
      end_attempt(assignment, record, end);
    } else if (!record.ended) {
      const auto claim = workspace_.claim(stage.key, record.attempt);
      if (claim && may_be_running(stage.key, record.attempt, *claim)) {
        status.state = StageState::running;
        status.elsewhere = true;
        status.reason =
            "run by " + who(*claim) + (record.request ? ", which has yet to " + record.request->action + " it" : "");
        return true;
      }
      end_attempt(assignment, record, end_of_unlisted(record, claim.has_value()));
    }
    // Ended before: a pass was cut short between recording the end and forgetting the job.
    if (listed != nullptr) listed->executor->forget(stage.key, record.attempt);
    return false;
  }

  // The job of this attempt, null when no executor lists one; ends an older attempt's that is still listed.
  const ListedJob* listed_job(const std::string& key, int attempt) {
    const auto found = jobs_.find(key);
    if (found == jobs_.end()) return nullptr;
    const auto& [executor, job] = found->second;
    if (job.attempt < attempt) discard(*executor, job);
    return job.attempt == attempt ? &found->second : nullptr;
  }

  // Where files appear late: the attempt ended well, and its result.json may be there although it is not seen yet.
  bool awaits_result(const PlannedStage& stage, StageRecord& record, const ListedJob& listed, StageStatus& status) {
    const double grace_s = listed.executor->result_grace_s();
    if (record.done || record.request || grace_s <= 0 || !may_have_succeeded(listed.job)) return false;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(workspace_.stage_folder(stage.key), ignored))
      static_cast<void>(entry);  // listed anew, so that the file system asks its server
    record = read_stage_record(workspace_, stage.key, stage.kind);
    if (record.done) return false;
    const double waited_s = workspace_.awaited_s(stage.key, record.attempt);
    if (waited_s >= grace_s) return false;
    status.state = StageState::running;
    status.where = listed.job.where;
    status.reason = "ended; its result.json has not appeared yet, " +
                    std::to_string(std::lround(std::ceil(grace_s - waited_s))) + " s are left for it";
    return true;
  }

  // An older attempt's result appeared after all: this one is not needed.
  void end_superfluous(const PlannedStage& stage, const ListedJob& listed, StageStatus& status) {
    const auto& [executor, job] = listed;
    const auto result = workspace_.result(stage.key, stage.kind);
    if (!result || result->attempt == job.attempt) return;
    executor->kill(job.stage, job.attempt);
    status.reason = "not needed any more: the result of attempt " + std::to_string(result->attempt) + " is there";
    if (!job.asked_to_stop)
      add_action(job.stage, "attempt " + std::to_string(job.attempt) + " is ended: the result of attempt " +
                                std::to_string(result->attempt) + " is there");
  }

  void follow(const ListedJob& listed, const StageRecord& record, StageStatus& status) {
    const auto& [executor, job] = listed;
    status.state = job.state == JobState::running ? StageState::running : StageState::queued;
    status.where = job.where;
    if (!record.request) return;
    const std::string& reason = record.request->reason;
    const bool cancel = record.request->action == "cancel";
    if (cancel)
      executor->kill(job.stage, job.attempt);
    else
      executor->stop(job.stage, job.attempt);
    options_.at_point("stop asked");
    if (!job.asked_to_stop) add_action(job.stage, (cancel ? "cancelled: " : "asked to stop: ") + reason);
    status.reason = (cancel ? "being cancelled: " : "being stopped: ") + reason;
  }

  // Whether the executor that wrote the claim may still run the attempt although nobody lists it.
  bool may_be_running(const std::string& key, int attempt, const Json& claim) const {
    const std::string name = text_of(claim, "executor", "local");
    const auto age_s = [&] { return workspace_.claim_age_s(key, attempt); };
    for (const auto& [executor, asked] : asked_)
      if (executor->name() == name) return !asked.answered || executor->may_be_running(claim, age_s);
    return claim_holds(claim, age_s);
  }

  void end_attempt(const StageAssignment& assignment, StageRecord& record, const AttemptOutcome& end) {
    const PlannedStage& stage = *assignment.stage;
    const std::string experiment(assignment.experiment);
    if (end.outcome == "done" && stage.kind == StageKind::train) collect_checkpoint(workspace_, stage.key, experiment);
    if (end.outcome == "done" && stage.kind == StageKind::evaluate)
      collect_evaluation(workspace_, stage.key, experiment);
    workspace_.write_outcome(stage.key, record.attempt, end);
    options_.at_point("end recorded");
    ended_.push_back({stage.key, record.attempt, end.outcome == "done"});
    add_action(stage.key, "attempt " + std::to_string(record.attempt) + " " + end.outcome +
                              (end.reason.empty() ? "" : ": " + end.reason));
    record = read_stage_record(workspace_, stage.key, stage.kind);
  }

  void try_start(const StageAssignment& assignment, const StageRecord& record, StageStatus& status) {
    if (!options_.start_new || assignment.executor == nullptr) return;
    Asked& asked = asked_.at(assignment.executor);
    if (!asked.answered) return;
    if (assignment.concurrency != nullptr && underway_[assignment.concurrency] >= assignment.concurrency->limit) return;
    StartRequest request{.stage = assignment.stage,
                         .resources = resources_of_next(*assignment.executor, *assignment.stage, record.counts)};
    if (!assignment.executor->reserve(request.resources)) return;
    if (!workspace_.make_attempt_after(status.key, record.attempt)) {
      status.reason = "another process has begun a further attempt, which is not seen here yet";
      return;
    }
    if (assignment.concurrency != nullptr) ++underway_[assignment.concurrency];
    request.attempt = status.attempt = record.attempt + 1;
    options_.at_point("attempt made");
    status.state = StageState::running;
    asked.batch.requests.push_back(std::move(request));
    asked.batch.places.push_back(result_.statuses.size());
  }

  void claim(Executor& executor, Batch& batch) {
    if (batch.requests.empty()) return;
    batch.claims = executor.prepare(batch.requests);
    for (std::size_t i = 0; i < batch.claims.size(); ++i)
      workspace_.write_claim(batch.requests[i].stage->key, batch.requests[i].attempt, batch.claims[i]);
  }

  void start(Executor& executor, const Batch& batch) {
    if (batch.requests.empty()) return;
    const auto refusals = executor.start(batch.requests, batch.claims);
    for (std::size_t i = 0; i < refusals.size(); ++i) {
      StageStatus& status = result_.statuses[batch.places[i]];
      if (refusals[i].empty()) {
        if (executor.state_once_started() == JobState::pending) {
          status.state = StageState::queued;
          status.where = "handed to " + executor.name();
        }
        add_action(status.key, "started attempt " + std::to_string(status.attempt));
        continue;
      }
      workspace_.write_outcome(status.key, status.attempt, {"failed", to_string(EndCause::exited), refusals[i]});
      add_action(status.key, "attempt " + std::to_string(status.attempt) + " could not be started: " + refusals[i]);
      ++status.counts.failures;
      status.state = StageState::queued;
      status.reason = refusals[i];
    }
    options_.at_point("started");
  }

  void add_action(const std::string& stage, const std::string& text) { result_.actions.push_back({stage, text}); }

  const Workspace& workspace_;
  const std::vector<StageAssignment>& assignments_;
  const ReconcileOptions& options_;
  StateRules rules_;
  std::unordered_map<Executor*, Asked> asked_;
  std::unordered_map<std::string, ListedJob> jobs_;  // by stage, of its newest attempt
  std::unordered_map<const ConcurrencyLimit*, int> underway_;
  std::vector<Ended> ended_;  // attempts, in this pass
  std::unordered_set<std::string> keep_steps_;
  PassResult result_;
};

}  // namespace

PassResult reconcile(const Workspace& workspace, const std::vector<StageAssignment>& assignments,
                     const std::vector<Executor*>& executors, const ReconcileOptions& options) {
  Pass pass(workspace, assignments, executors, options);
  {
    const FileDescriptor lock = workspace.lock();
    pass.decide();
    pass.start(false);
  }
  pass.start(true);
  pass.compact();
  return pass.result();
}

std::vector<StageStatus> reconcile(const Workspace& workspace, const Plan& plan, Executor& executor,
                                   const ReconcileOptions& options) {
  std::vector<StageAssignment> assignments;
  for (const auto& stage : plan.stages) assignments.push_back({&stage, &executor, nullptr, false, plan.name});
  return reconcile(workspace, assignments, {&executor}, options).statuses;
}

}  // namespace filo
