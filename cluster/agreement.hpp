// What all ranks decide together.
#pragma once

#include <string>

#include "cluster/communicator.hpp"

namespace filo {

// The largest `local_signal` over all ranks (0: nobody was asked to stop): all ranks stop at the same step or none
// does. Collective; over a communicator of host memory.
int agree_stop(Communicator& communicator, int local_signal);

// Whether any rank says so. Collective likewise.
bool any_rank(Communicator& communicator, bool mine);

// Rank 0's `text` on every rank. Collective likewise.
std::string broadcast_text(Communicator& communicator, std::string text);

}  // namespace filo
