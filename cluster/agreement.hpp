// What all ranks decide together at a step boundary.
#pragma once

#include "cluster/communicator.hpp"

namespace filo {

// The largest `local_signal` over all ranks (0: nobody was asked to stop): all ranks stop at the same step or none
// does. Collective; over a communicator of host memory.
int agree_stop(Communicator& communicator, int local_signal);

}  // namespace filo
