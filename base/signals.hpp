// Stop requests: the handlers only set a flag; work looks at it at its own safe points.
#pragma once

namespace filo {

// Installs handlers for SIGTERM, SIGINT and SIGUSR2 (not USR1: NCCL has been seen to catch it), and ignores SIGPIPE
// and SIGXFSZ. A second SIGINT ends the process at once.
void install_stop_handlers();

// The first signal caught, or 0. Async-signal-safe, thread-safe.
int stop_requested();

}  // namespace filo
