#include "scheduler/control/attempt_end.hpp"

#include <csignal>

#include "base/error.hpp"
#include "base/utf8.hpp"
#include "settings/resources.hpp"
#include "workspace/events.hpp"

namespace filo {
namespace {

constexpr std::uint64_t longest_failure = 2 << 20;
constexpr int exit_stopped_early = static_cast<int>(ExitCode::stopped_early);

// What the attempt itself told of its end, the first event of each kind that has a message; null where there is none.
struct ToldEnd {
  Json damaged{}, failed{};
};

ToldEnd told_end(const Workspace& workspace, const Job& job) {
  EventReader events(workspace.events_file(job.stage, job.attempt));
  events.start_near_end(longest_failure);  // it is told last, and the file of a long run has many megabytes
  ToldEnd told;
  for (auto& event : events.read()) {
    if (!event.contains("message") || !event["message"].is_string()) continue;
    if (told.damaged.is_null() && event.at("event") == "damaged")
      told.damaged = std::move(event);
    else if (told.failed.is_null() && event.at("event") == "failed")
      told.failed = std::move(event);
  }
  return told;
}

// What the system says.
std::string reason_of_failure(const Job& job, const ResourceSettings& had) {
  if (job.cause == EndCause::signalled && job.signal == SIGKILL)
    return "killed (signal 9), as by a system that is short of memory; it had asked for " + had.memory;
  if (job.cause == EndCause::signalled) return "ended by signal " + std::to_string(job.signal);
  if (job.exit_code != 0) return "exit code " + std::to_string(job.exit_code);
  return "ended with exit code 0 but without a valid result.json of this attempt";
}

// The last words of the check (scheduler/executors/bad_nodes.hpp).
std::string reason_of_unhealthy(const Workspace& workspace, const Job& job) {
  const std::string log = printable(workspace.log_tail(job.stage, job.attempt, 1));
  const auto at = log.find("the node ");
  return at == std::string::npos ? "the node could not write into the workspace"
                                 : log.substr(at, log.find('\n', at) - at);
}

std::string at(const Job& job) { return job.where.empty() ? "" : " (" + job.where + ")"; }

}  // namespace

ResourceSettings resources_of_next(const Executor& executor, const PlannedStage& stage, const AttemptCounts& counts) {
  return executor.allowed(grown(stage.resources, counts.timeouts, counts.out_of_memory));
}

AttemptOutcome end_of(const Workspace& workspace, const PlannedStage& stage, const StageRecord& record,
                      const Executor& executor, const Job& job) {
  const std::string cause = to_string(job.cause);
  if (record.done) return {"done", cause, ""};
  if (record.request && record.request->action == "cancel") return {"cancelled", cause, record.request->reason};
  const ToldEnd told = told_end(workspace, job);
  // However its launcher ended: a shard of its features is made anew, which is no failure of this stage.
  if (!told.damaged.is_null()) return {"stopped", cause, told.damaged["message"]};
  if (job.cause == EndCause::exited && job.exit_code == exit_stopped_early)
    return {"stopped", cause, "stopped early with a snapshot"};
  if (job.asked_to_stop) return {"stopped", cause, "stopped on request"};
  const ResourceSettings had = resources_of_next(executor, stage, record.counts);
  switch (job.cause) {
    case EndCause::timeout:
      return {"failed", cause, "ran longer than its time of " + had.time + at(job)};
    case EndCause::out_of_memory:
      return {"failed", cause, "used more than its memory of " + had.memory + at(job)};
    case EndCause::node_failure:
      return {"lost", cause, "the node failed" + at(job)};
    case EndCause::unhealthy_node:
      return {"lost", cause, reason_of_unhealthy(workspace, job) + at(job)};
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
  if (told.failed.contains("hung_rank"))
    return {"failed", "hung", told.failed["message"], text_of(told.failed, "node")};
  return {"failed", cause,
          told.failed.is_null() ? reason_of_failure(job, had) : told.failed["message"].get<std::string>()};
}

}  // namespace filo
