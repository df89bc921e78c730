// Places where a kill -9 of the coordinator must lose nothing and start nothing twice. With FILO_FAILPOINT=NAME in the
// environment (or NAME:N, at the N-th passing) the process kills itself there: tests/chaos goes through all of them.
#pragma once

#include <array>
#include <string_view>

namespace filo {

inline constexpr std::array<std::string_view, 9> failpoints = {
    "attempt made",     // its folder is there, nothing else
    "claimed",          // claim.json is written, nothing is started
    "started",          // all of the pass's batch is started
    "end recorded",     // end.json is written, the executor has not forgotten the job
    "stop asked",       // stop() or kill() was called for a request
    "request written",  // by a search's decision or `filo cancel`
    "submitted",        // Slurm: sbatch has answered, the job's id is not recorded, the job is held
    "recorded",         // Slurm: the id is recorded, the job is still held
    "released",         // Slurm: the job may run
};

// Kills this process (SIGKILL) when FILO_FAILPOINT names this point. `name` is one of `failpoints`.
void pass_failpoint(std::string_view name);

}  // namespace filo
