#include "scheduler/control/run.hpp"

#include <chrono>
#include <thread>

#include "scheduler/control/drain.hpp"
#include "scheduler/control/other_hands.hpp"
#include "scheduler/control/requests.hpp"
#include "workspace/run_file.hpp"

namespace filo {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto between_polls = std::chrono::milliseconds(50);
constexpr auto between_passes = std::chrono::seconds(2);  // also how often claims are touched

int failures_in(const std::vector<StageStatus>& statuses) {
  int failures = 0;
  for (const auto& status : statuses) failures += status.counts.failures;
  return failures;
}

}  // namespace

std::vector<StageStatus> run_plan(const Workspace& workspace, const Plan& plan, Executor& executor,
                                  RunProgress& progress, const RunOptions& options) {
  const RunFile run(workspace, plan.name);
  retry_all(workspace, plan);
  Coordinator coordinator(workspace, nullptr, options.coordinator);
  coordinator.look_after(plan, executor);
  std::vector<StageStatus> statuses;
  OtherHands others(workspace);
  const auto pass = [&](bool start_new) {
    coordinator.pass(start_new);
    statuses = coordinator.statuses(plan);
    progress.update(statuses);
    for (const auto& line : others.news(statuses)) progress.line(line);
  };
  pass(!options.stop());
  auto last_pass = Clock::now();
  int failures = 0;
  while (!is_settled(statuses)) {
    if (options.stop()) {
      drain(coordinator,
            {.grace_s = options.grace_s, .pass = [&] { pass(false); }, .poll = [&] { progress.update(statuses); }});
      return statuses;
    }
    std::this_thread::sleep_for(between_polls);
    // A stage that could not even be started is tried again at once.
    const bool failed_since = failures_in(statuses) != failures;
    if (failed_since || coordinator.children().ended > 0 || Clock::now() - last_pass > between_passes) {
      failures = failures_in(statuses);
      pass(true);
      last_pass = Clock::now();
    } else {
      progress.update(statuses);
    }
  }
  return statuses;
}

}  // namespace filo
