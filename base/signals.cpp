#include "base/signals.hpp"

#include <pthread.h>

#include <csignal>
#include <cstddef>
#include <initializer_list>

namespace filo {
namespace {

volatile std::sig_atomic_t caught = 0;

// Of the thread that installs the handlers: oneDNN's float32 products let the stack pointer point into their work
// buffer, below which a handler without a stack of its own writes into the heap.
alignas(64) std::byte stack_of_handlers[std::size_t{64} << 10];

extern "C" void on_stop(int signal) {
  if (caught == SIGINT && signal == SIGINT) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
  }
  if (caught == 0) caught = signal;
}

}  // namespace

void install_stop_handlers() {
  stack_t stack{};
  stack.ss_sp = stack_of_handlers;
  stack.ss_size = sizeof stack_of_handlers;
  sigaltstack(&stack, nullptr);
  struct sigaction action {};
  action.sa_handler = on_stop;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  for (const int signal : {SIGTERM, SIGINT, SIGUSR2}) sigaction(signal, &action, nullptr);
  for (const int signal : {SIGPIPE, SIGXFSZ}) std::signal(signal, SIG_IGN);  // the write itself fails, and is told
}

int stop_requested() { return caught; }

SignalsBlocked::SignalsBlocked() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before_);
}

SignalsBlocked::~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

}  // namespace filo
