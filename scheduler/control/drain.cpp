#include "scheduler/control/drain.hpp"

#include <chrono>
#include <thread>

namespace filo {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto between_polls = std::chrono::milliseconds(50);
constexpr auto between_passes = std::chrono::seconds(2);  // also how often claims are touched

}  // namespace

void drain(Coordinator& coordinator, const DrainOptions& options) {
  auto children = coordinator.children();
  if (children.running + children.ended == 0) return;
  coordinator.stop_children();
  const auto deadline = Clock::now() + std::chrono::duration<double>(options.grace_s);
  auto last_pass = Clock::now();
  for (; children.running > 0; children = coordinator.children()) {
    if (Clock::now() > deadline) coordinator.end_children();
    if (children.ended > 0 || Clock::now() - last_pass > between_passes) {
      options.pass();
      last_pass = Clock::now();
    }
    options.poll();
    std::this_thread::sleep_for(between_polls);
  }
  options.pass();
}

}  // namespace filo
