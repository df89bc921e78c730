#include "base/signals.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>

namespace filo {
namespace {

// Handlers and the flag last as long as the process: each case runs in a child of its own. Returns waitpid's status.
int in_a_child(const std::function<int()>& body) {
  const pid_t pid = fork();
  if (pid == 0) _exit(body());
  int status = 0;
  waitpid(pid, &status, 0);
  return status;
}

// Guards Slurm's and the user's ways to ask for a stop: each sets the flag and ends nothing.
TEST(Signals, EachStopSignalSetsTheFlag) {
  for (const int signal : {SIGTERM, SIGINT, SIGUSR2}) {
    const int status = in_a_child([signal] {
      install_stop_handlers();
      if (stop_requested() != 0) return 100;
      raise(signal);
      return stop_requested();
    });
    ASSERT_TRUE(WIFEXITED(status)) << "signal " << signal << " ended the process";
    EXPECT_EQ(WEXITSTATUS(status), signal);
  }
}

// Guards the reason in the `stopped` event: the first signal counts, a scheduler's SIGTERM after it does not.
TEST(Signals, TheFirstSignalIsKept) {
  const int status = in_a_child([] {
    install_stop_handlers();
    raise(SIGUSR2);
    raise(SIGTERM);
    return stop_requested();
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), SIGUSR2);
}

// Guards impatience: Ctrl-C twice ends the process at once.
TEST(Signals, ASecondInterruptEndsTheProcess) {
  const int status = in_a_child([] {
    install_stop_handlers();
    raise(SIGINT);
    raise(SIGINT);
    return 0;
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGINT);
}

// Guards `filo report | head`: a closed pipe is a failed write, not a death.
TEST(Signals, AClosedPipeDoesNotKill) {
  const int status = in_a_child([] {
    install_stop_handlers();
    int channel[2];
    if (pipe(channel) != 0) return 1;
    close(channel[0]);
    return write(channel[1], "x", 1) == -1 ? 0 : 2;
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace filo
