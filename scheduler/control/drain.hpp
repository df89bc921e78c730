// How a process that runs stages ends: `filo run` and `filo serve` when they are told to stop.
#pragma once

#include <functional>

#include "scheduler/control/coordinator.hpp"

namespace filo {

struct DrainOptions {
  double grace_s = 120;                // for the snapshots
  std::function<void()> pass;          // Coordinator::pass(false), and what goes with it
  std::function<void()> poll = [] {};  // called twenty times a second meanwhile
};

// Asks all stages that run as children of this process for their snapshots, and waits until none runs; those that take
// longer than the grace are ended. Makes a pass when one has ended and every two seconds, and one more at the end.
// Nothing runs here: does nothing. Jobs of a cluster go on by themselves.
void drain(Coordinator& coordinator, const DrainOptions& options);

}  // namespace filo
