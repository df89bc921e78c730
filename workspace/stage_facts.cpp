#include "workspace/stage_facts.hpp"

namespace filo {
namespace {

void count(const Workspace& workspace, const std::string& key, int attempt, const AttemptEnd& end, StageFacts& facts) {
  facts.last_reason = end.reason;
  if (end.outcome == "cancelled") return;
  if (end.outcome == "stopped" || end.outcome == "lost") {
    // Without a claim it was never started: a coordinator died, which says nothing about the stage.
    if (end.outcome == "stopped" || workspace.claim(key, attempt)) ++facts.counts.requeues;
    return;
  }
  // "done" whose result.json is gone or broken since is a failure too.
  facts.last_failure = end.outcome == "done" ? "its result.json is no longer valid" : end.reason;
  if (end.cause == "timeout")
    ++facts.counts.timeouts;
  else if (end.cause == "out_of_memory")
    ++facts.counts.out_of_memory;
  else
    ++facts.counts.failures;
}

}  // namespace

StageFacts read_facts(const Workspace& workspace, const std::string& key, StageKind kind) {
  StageFacts facts;
  facts.attempt = workspace.newest_attempt(key);
  facts.request = workspace.request(key);
  if (facts.attempt == 0) return facts;
  if (const auto result = workspace.result(key, kind)) {
    facts.done = true;
    facts.seconds = result->seconds;
    facts.ended = workspace.end(key, facts.attempt).has_value();
    return facts;
  }
  const int retried = workspace.retry_after(key);
  facts.retried = facts.attempt <= retried;
  std::optional<AttemptEnd> end;
  for (int attempt = retried + 1; attempt <= facts.attempt; ++attempt) {
    end = workspace.end(key, attempt);
    if (end) count(workspace, key, attempt, *end, facts);
  }
  if (facts.retried) end = workspace.end(key, facts.attempt);
  facts.ended = end.has_value();
  facts.cancelled = end && end->outcome == "cancelled" && !facts.retried;
  return facts;
}

std::string given_up(const StageFacts& facts, const AttemptLimits& limits) {
  const auto times = [](const char* what, int count) {
    return std::string(what) + " " + std::to_string(count) + " times";
  };
  const AttemptCounts& counts = facts.counts;
  if (counts.failures >= limits.failures) return facts.last_failure;
  if (counts.timeouts >= limits.timeouts) return times("ran out of time", counts.timeouts) + ": " + facts.last_failure;
  if (counts.out_of_memory >= limits.out_of_memory)
    return times("ran out of memory", counts.out_of_memory) + ": " + facts.last_failure;
  if (counts.requeues >= limits.requeues)
    return times("stopped or lost", counts.requeues) + ", last: " + facts.last_reason;
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
