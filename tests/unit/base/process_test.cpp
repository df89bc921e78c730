#include "base/process.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <sstream>
#include <thread>
#include <vector>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/signals.hpp"

namespace filo {
namespace {

using testing::HasSubstr;

ProcessOptions shell(const std::string& script) { return {.arguments = {"sh", "-c", script}}; }

bool eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

// Whether a process runs (a zombie does not).
bool runs(pid_t pid) {
  try {
    const std::string status = read_file("/proc/" + std::to_string(pid) + "/stat");
    const char state = status.at(status.rfind(')') + 2);
    return state != 'Z' && state != 'X';
  } catch (const Error&) {
    return false;
  }
}

// Guards exit codes and deaths by signal, which the scheduler tells apart.
TEST(Process, TellsExitCodesFromSignals) {
  EXPECT_TRUE(Process(shell("exit 0")).wait().ok());
  const ProcessResult failed = Process(shell("exit 75")).wait();
  EXPECT_EQ(failed.exit_code, 75);
  EXPECT_EQ(failed.signal, 0);
  const ProcessResult killed = Process(shell("kill -KILL $$")).wait();
  EXPECT_EQ(killed.signal, SIGKILL);
  EXPECT_FALSE(killed.ok());
}

// Guards that a missing program is an error here and not a child that exits with 127.
TEST(Process, AMissingProgramIsAnErrorThatNamesIt) {
  try {
    Process process({.arguments = {"/no/such/program"}});
    ADD_FAILURE() << "it was started";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("/no/such/program: cannot be started: No such file"));
  }
  EXPECT_THROW(Process({.arguments = {}}), Error);
}

// Guards that no shell stands between: an argument arrives as it is.
TEST(Process, ArgumentsAreNotInterpreted) {
  EXPECT_EQ(run_and_capture({"printf", "%s", "a b; $HOME `id` *"}).output, "a b; $HOME `id` *");
}

// Guards the environment that the scheduler hands to mpirun, and that the rest is inherited.
TEST(Process, TheEnvironmentIsAddedTo) {
  setenv("FILO_TEST_INHERITED", "1", 1);
  setenv("FILO_TEST_REPLACED", "old", 1);
  ProcessOptions options = shell(R"(test "$FILO_TEST_INHERITED/$FILO_TEST_REPLACED/$FILO_TEST_ADDED" = "1/new/3")");
  options.environment = {{"FILO_TEST_REPLACED", "new"}, {"FILO_TEST_ADDED", "3"}};
  EXPECT_TRUE(Process(options).wait().ok());
  unsetenv("FILO_TEST_INHERITED");
  unsetenv("FILO_TEST_REPLACED");
}

// Guards an attempt's log: both streams, and a second run is appended to the first.
TEST(Process, OutputIsAppendedToTheFile) {
  std::string pattern = (std::filesystem::temp_directory_path() / "filo-process-XXXXXX").string();
  ASSERT_NE(mkdtemp(pattern.data()), nullptr);
  const std::filesystem::path folder = pattern;
  for (const char* script : {"echo one; echo two >&2", "echo three"}) {
    ProcessOptions options = shell(script);
    options.output_file = folder / "log.txt";
    EXPECT_TRUE(Process(options).wait().ok());
  }
  EXPECT_EQ(read_file(folder / "log.txt"), "one\ntwo\nthree\n");
  std::filesystem::remove_all(folder);
}

// Guards poll: it does not block, and goes on saying what it said once.
TEST(Process, PollDoesNotBlock) {
  Process process(shell("sleep 60"));
  EXPECT_FALSE(process.poll().has_value());
  process.signal_group(SIGTERM);
  ASSERT_TRUE(eventually([&] { return process.poll().has_value(); }));
  EXPECT_EQ(process.poll()->signal, SIGTERM);
  EXPECT_EQ(process.wait().signal, SIGTERM);
}

// Guards against stray ranks: a child's own children go with it.
TEST(Process, NothingOutlivesItsOwner) {
  int channel[2];
  ASSERT_EQ(pipe(channel), 0);
  pid_t grandchild = 0;
  {
    // The grandchild's id comes back through the write end of the pipe, which is this process's.
    Process process(shell("sleep 60 & echo $! >/proc/" + std::to_string(getpid()) + "/fd/" +
                          std::to_string(channel[1]) + "; wait"));
    char text[32] = {};
    ASSERT_GT(read(channel[0], text, sizeof text - 1), 0);
    grandchild = static_cast<pid_t>(std::atoi(text));
    ASSERT_TRUE(runs(grandchild));
  }
  EXPECT_TRUE(eventually([&] { return !runs(grandchild); }));
  close(channel[0]);
  close(channel[1]);
}

// Guards `kill -9 filo`: its mpirun dies with it.
TEST(Process, AChildDiesWithAKilledParent) {
  int channel[2];
  ASSERT_EQ(pipe(channel), 0);
  const pid_t parent = fork();
  ASSERT_GE(parent, 0);
  if (parent == 0) {
    Process process({.arguments = {"sleep", "60"}});
    const pid_t child = process.pid();
    if (write(channel[1], &child, sizeof child) != sizeof child) _exit(1);
    pause();
    _exit(0);
  }
  pid_t child = 0;
  ASSERT_EQ(read(channel[0], &child, sizeof child), static_cast<ssize_t>(sizeof child));
  ASSERT_TRUE(runs(child));
  kill(parent, SIGKILL);
  waitpid(parent, nullptr, 0);
  EXPECT_TRUE(eventually([&] { return !runs(child); }));
  close(channel[0]);
  close(channel[1]);
}

// Guards that a program without an answer does not stop us: it is killed when its time is up.
TEST(RunAndCapture, KillsWhatRunsTooLong) {
  const auto start = std::chrono::steady_clock::now();
  const CapturedOutput captured = run_and_capture({"sh", "-c", "echo early; sleep 60"}, 0.3);
  EXPECT_EQ(captured.result.signal, SIGKILL);
  EXPECT_EQ(captured.output, "early\n");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

// Guards large outputs (more than a pipe holds) and the choice of streams.
TEST(RunAndCapture, ReturnsAllOfTheOutput) {
  const CapturedOutput large = run_and_capture({"sh", "-c", "head -c 300000 /dev/zero; exit 3"});
  EXPECT_EQ(large.output.size(), 300'000u);
  EXPECT_EQ(large.result.exit_code, 3);
  EXPECT_EQ(run_and_capture({"sh", "-c", "echo out; echo err >&2"}, 30, true).output, "out\nerr\n");
}

// Guards stops: a child that inherited a blocked SIGUSR2 would never hear that it should write a snapshot.
TEST(Process, SignalsThatTheStartingThreadBlocksReachTheChild) {
  Process process = [] {
    const SignalsBlocked blocked;
    return Process({.arguments = {"sleep", "30"}});
  }();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // exec
  process.signal_group(SIGUSR2);
  EXPECT_EQ(process.wait().signal, SIGUSR2);
}

// Guards a port from the children of its server: what they inherit they hold, and may outlive it.
TEST(Process, AChildInheritsNothingButItsStandardStreams) {
  const int leaking = open("/dev/null", O_RDONLY);  // as libraries open files
  ASSERT_GE(leaking, 3);
  const CapturedOutput listed = run_and_capture({"sh", "-c", "for f in /proc/$$/fd/*; do readlink $f; done"});
  close(leaking);
  std::istringstream lines(listed.output);
  std::vector<std::string> files;
  for (std::string line; std::getline(lines, line);) files.push_back(line);
  EXPECT_EQ(files.size(), 3u) << listed.output;
}

}  // namespace
}  // namespace filo
