// Stop requests: the handlers only set a flag; work looks at it at its own safe points.
#pragma once

#include <csignal>

namespace filo {

// Installs handlers for SIGTERM, SIGINT and SIGUSR2 (not USR1: NCCL has been seen to catch it), and ignores SIGPIPE
// and SIGXFSZ. A second SIGINT ends the process at once. The handlers run on a stack of their own in the thread that
// calls this, the main one; others are to be started with SignalsBlocked where they compute.
void install_stop_handlers();

// The first signal caught, or 0. Async-signal-safe, thread-safe.
int stop_requested();

// A thread that is started while one lives leaves all signals to the others: stop signals are for the main thread.
class SignalsBlocked {
 public:
  SignalsBlocked();
  ~SignalsBlocked();
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace filo
