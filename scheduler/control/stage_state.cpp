#include "scheduler/control/stage_state.hpp"

#include <algorithm>

#include "workspace/claim.hpp"

namespace filo {
namespace {

void settle(StageStatus& status, StageState state, const std::string& reason) {
  status.state = state;
  status.reason = reason;
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
    case StageState::stopped:
      return "stopped";
    case StageState::cancelled:
      return "cancelled";
  }
  return "";
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

void StateRules::note(const PlannedStage& stage, StageState state) { known_[key_number(stage.key)] = {&stage, state}; }

void StateRules::apply(const PlannedStage& stage, const StageRecord& record, StageStatus& status) const {
  status.counts = record.counts;
  status.reason = record.last_reason;
  if (record.done) return settle(status, StageState::done, "");
  if (record.request) {
    const bool cancel = record.request->action == "cancel";
    return settle(status, cancel ? StageState::cancelled : StageState::stopped, record.request->reason);
  }
  if (record.cancelled) return settle(status, StageState::cancelled, record.last_reason);
  if (const std::string why = given_up(record, stage.resources.attempts); !why.empty())
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

StageRecord record_of(const Workspace& workspace, StageIndex* index, const PlannedStage& stage) {
  return index != nullptr ? index->record(stage.key, stage.kind) : read_stage_record(workspace, stage.key, stage.kind);
}

std::vector<StageStatus> observe(const Workspace& workspace, const Plan& plan, StageIndex* index) {
  StateRules rules(plan.stages.size());
  std::vector<StageStatus> statuses;
  for (const auto& stage : plan.stages) {
    const StageRecord record = record_of(workspace, index, stage);
    StageStatus status{.key = stage.key, .attempt = record.attempt};
    rules.apply(stage, record, status);
    status.seconds = record.seconds;
    if (record.attempt > 0 && !record.ended && !record.done) {
      const auto claim = workspace.claim(stage.key, record.attempt);
      if (claim && claim_holds(*claim, [&] { return workspace.claim_age_s(stage.key, record.attempt); }))
        status.state = StageState::running;
      else
        status.reason = "attempt " + std::to_string(record.attempt) + " no longer runs";
    }
    rules.note(stage, status.state);
    statuses.push_back(std::move(status));
  }
  return statuses;
}

}  // namespace filo
