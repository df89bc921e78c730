#include "workspace/stage_record.hpp"

namespace filo {
namespace {

void count(const Workspace& workspace, const std::string& key, int attempt, const AttemptOutcome& end,
           StageRecord& record) {
  record.last_reason = end.reason;
  if (end.outcome == "cancelled") return;
  if (end.outcome == "stopped" || end.outcome == "lost") {
    // Without a claim it was never started: a coordinator died, which says nothing about the stage.
    if (end.outcome == "stopped" || workspace.claim(key, attempt)) ++record.counts.requeues;
    return;
  }
  // "done" whose result.json is gone or broken since is a failure too.
  record.last_failure = end.outcome == "done" ? "its result.json is no longer valid" : end.reason;
  if (end.cause == "timeout")
    ++record.counts.timeouts;
  else if (end.cause == "out_of_memory")
    ++record.counts.out_of_memory;
  else
    ++record.counts.failures;
}

}  // namespace

StageRecord read_stage_record(const Workspace& workspace, const std::string& key, StageKind kind) {
  StageRecord record;
  record.attempt = workspace.newest_attempt(key);
  record.request = workspace.request(key);
  if (record.attempt == 0) return record;
  if (const auto result = workspace.result(key, kind)) {
    record.done = true;
    record.seconds = result->seconds;
    record.ended = workspace.outcome(key, record.attempt).has_value();
    return record;
  }
  const int retried = workspace.retry_after(key);
  record.retried = record.attempt <= retried;
  std::optional<AttemptOutcome> end;
  for (int attempt = retried + 1; attempt <= record.attempt; ++attempt) {
    end = workspace.outcome(key, attempt);
    if (end) count(workspace, key, attempt, *end, record);
  }
  if (record.retried) end = workspace.outcome(key, record.attempt);
  record.ended = end.has_value();
  record.cancelled = end && end->outcome == "cancelled" && !record.retried;
  return record;
}

std::string given_up(const StageRecord& record, const AttemptLimits& limits) {
  const auto times = [](const char* what, int count) {
    return std::string(what) + " " + std::to_string(count) + " times";
  };
  const AttemptCounts& counts = record.counts;
  if (counts.failures >= limits.failures) return record.last_failure;
  if (counts.timeouts >= limits.timeouts) return times("ran out of time", counts.timeouts) + ": " + record.last_failure;
  if (counts.out_of_memory >= limits.out_of_memory)
    return times("ran out of memory", counts.out_of_memory) + ": " + record.last_failure;
  if (counts.requeues >= limits.requeues)
    return times("stopped or lost", counts.requeues) + ", last: " + record.last_reason;
  return "";
}

std::string limits_used(const AttemptCounts& counts, const AttemptLimits& limits) {
  std::string text;
  const auto add = [&](const char* what, int count, int limit) {
    if (count == 0) return;
    text += (text.empty() ? "" : ", ") + std::string(what) + " " + std::to_string(count) + " of " +
            std::to_string(limit) + " times";
  };
  add("failed", counts.failures, limits.failures);
  add("out of time", counts.timeouts, limits.timeouts);
  add("out of memory", counts.out_of_memory, limits.out_of_memory);
  add("requeued", counts.requeues, limits.requeues);
  return text;
}

}  // namespace filo
