#include "workspace/run_file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/host.hpp"
#include "tests/unit/support/scratch.hpp"

namespace filo {
namespace {

// Guards: a run is seen while it lives, and hands nothing to those who look after active experiments.
TEST(RunFile, IsSeenWhileItLives) {
  const Scratch scratch;
  const Workspace workspace = scratch.workspace();
  EXPECT_TRUE(living_runs(workspace, "demo").empty());
  {
    const RunFile file(workspace, "demo");
    const auto runs = living_runs(workspace, "demo");
    ASSERT_EQ(runs.size(), 1u);
    EXPECT_EQ(runs[0].host, host_name());
    EXPECT_EQ(runs[0].pid, getpid());
    EXPECT_NEAR(runs[0].since, wall_time_s(), 60);
    EXPECT_TRUE(living_runs(workspace, "other").empty());
    EXPECT_TRUE(workspace.active_experiments().empty());
  }
  EXPECT_TRUE(living_runs(workspace, "demo").empty());
}

// Guards: what a kill -9 leaves counts for nothing, and the next run removes it.
TEST(RunFile, OfAKilledRunCountsForNothing) {
  const Scratch scratch;
  const Workspace workspace = scratch.workspace();
  const pid_t child = fork();
  if (child == 0) {
    const RunFile file(workspace, "demo");
    kill(getpid(), SIGKILL);
  }
  waitpid(child, nullptr, 0);
  const auto left = workspace.runs_folder("demo") / (host_name() + "-" + std::to_string(child) + ".json");
  ASSERT_TRUE(std::filesystem::exists(left));
  EXPECT_TRUE(living_runs(workspace, "demo").empty());
  const RunFile next(workspace, "demo");
  EXPECT_FALSE(std::filesystem::exists(left));
}

// Guards: on another host a run lives as long as its file is touched.
TEST(RunFile, OfAnotherHostLivesWhileItIsTouched) {
  const Scratch scratch;
  const Workspace workspace = scratch.workspace();
  const auto path = workspace.runs_folder("demo") / "elsewhere-7.json";
  scratch.write("workspace/experiments/demo/runs/elsewhere-7.json",
                R"({"executor": "local", "host": "elsewhere", "boot": "b", "pid": 7, "since": 5})");
  ASSERT_EQ(living_runs(workspace, "demo").size(), 1u);
  EXPECT_EQ(living_runs(workspace, "demo")[0].pid, 7);
  const timespec old[2] = {{.tv_sec = 1'000'000, .tv_nsec = 0}, {.tv_sec = 1'000'000, .tv_nsec = 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), old, 0), 0);
  EXPECT_TRUE(living_runs(workspace, "demo").empty());
}

}  // namespace
}  // namespace filo
