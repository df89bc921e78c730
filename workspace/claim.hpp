// claim.json: who runs an attempt, so that no other process starts it again.
#pragma once

#include "base/json.hpp"

namespace filo {

// Of an attempt that runs as a child of this process: {"executor": "local", "host", "boot", "pid", "process_started"}.
Json process_claim();

// Whether an attempt with this claim may still run, as far as can be told without asking its executor. Claims of
// processes: on this host, that the process lives; on another, that the claim was touched within the last minute.
// Other claims (a cluster's) are taken to hold.
bool claim_holds(const Json& claim, double age_s);

}  // namespace filo
