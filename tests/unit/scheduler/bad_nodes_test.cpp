// Which nodes jobs keep away from, and what comes of it in sbatch's arguments.
#include "scheduler/executors/bad_nodes.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler/control/reconcile.hpp"
#include "scheduler/report/status.hpp"
#include "tests/unit/support/fake_slurm.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

Job ended(EndCause cause, double seconds, const std::string& node = "n3") {
  return {.stage = "00000000000000aa",
          .attempt = 1,
          .state = JobState::ended,
          .cause = cause,
          .exit_code = 1,
          .node = node,
          .seconds = seconds};
}

std::string scope(const Job& job, const AttemptOutcome& end) {
  const auto bad = judged(job, end, {});
  return !bad ? "none" : bad->stage.empty() ? "all" : bad->stage;
}

TEST(JudgedNodes, OnlyWhatTheNodeCanHaveCausedCounts) {
  const AttemptOutcome failed = {"failed", "exited", "exit code 1"};
  EXPECT_EQ(scope(ended(EndCause::exited, 3), failed), "00000000000000aa");
  EXPECT_EQ(scope(ended(EndCause::signalled, 0), failed), "00000000000000aa");
  EXPECT_EQ(scope(ended(EndCause::exited, 20), failed), "none") << "it lived for a while";
  EXPECT_EQ(scope(ended(EndCause::exited, -1), failed), "none") << "nobody knows how long it lived";
  EXPECT_EQ(scope(ended(EndCause::exited, 3, ""), failed), "none") << "on several nodes";
  EXPECT_EQ(scope(ended(EndCause::exited, 3), {"done", "exited", ""}), "none");
  EXPECT_EQ(scope(ended(EndCause::exited, 3), {"stopped", "exited", "stopped early"}), "none");
  EXPECT_EQ(scope(ended(EndCause::timeout, 3), {"failed", "timeout", "ran longer"}), "none");
  EXPECT_EQ(scope(ended(EndCause::out_of_memory, 3), {"failed", "out_of_memory", "used more"}), "none");
  EXPECT_EQ(scope(ended(EndCause::unhealthy_node, 1), {"lost", "unhealthy_node", "no GPU"}), "all");
  EXPECT_EQ(
      scope(ended(EndCause::exited, 5000), {"failed", "exited", "CUDA error: uncorrectable ECC error encountered"}),
      "all");
  const AttemptOutcome hung = {"failed", "hung", "the job hangs", "n5"};
  for (const char* node : {"n3", ""}) {
    const auto bad = judged(ended(EndCause::signalled, 5000, node), hung, {});
    ASSERT_TRUE(bad) << "the watchdog knows the node, whatever it ran on";
    EXPECT_EQ(bad->node, "n5");
    EXPECT_EQ(bad->stage, "00000000000000aa");
  }
  Job asked = ended(EndCause::exited, 3);
  asked.asked_to_stop = true;
  EXPECT_EQ(scope(asked, failed), "none");
}

TEST(NodesToAvoid, AreTheLatestOfTheStageAndOfAll) {
  const std::vector<BadNode> bad = {
      {"n9", "", "a", 1}, {"n1", "other", "b", 2}, {"n2", "mine", "c", 3}, {"n5", "", "d", 4}};
  EXPECT_THAT(nodes_to_avoid(bad, "mine", 8), ElementsAre("n2", "n5", "n9"));
  EXPECT_THAT(nodes_to_avoid(bad, "mine", 2), ElementsAre("n2", "n5"));
  EXPECT_THAT(nodes_to_avoid(bad, "mine", 0), IsEmpty());
}

class BadNodesTest : public SlurmExecutorTest {
 protected:
  BadNodesTest() {
    plan.name = "grid";
    fs::create_directories(workspace.slurm_folder());
  }

  StageStatus pass() { return passes().front(); }
  std::vector<StageStatus> passes() {
    SlurmExecutor slurm = executor();
    return reconcile(workspace, plan, slurm, {});
  }
  // `count` stages that have no attempt yet.
  void plan_stages(std::size_t count) {
    for (const auto& request : requests(count)) {
      plan.stages.push_back(*request.stage);
      fs::remove_all(workspace.attempt_folder(request.stage->key, 1));
    }
  }

  Plan plan;
};

// Guards the whole way: the attempt fails within seconds on n1, the next is sent elsewhere, and status says so.
TEST_F(BadNodesTest, TheNextAttemptKeepsAwayFromWhereTheLastOneDied) {
  plan_stages(1);
  pass();
  EXPECT_THAT(text("arguments"), Not(HasSubstr("--exclude")));
  all_become("FAILED", 1 << 8, 2);
  EXPECT_EQ(pass().attempt, 2);
  EXPECT_THAT(text("arguments"), HasSubstr("--exclude=n1\n"));

  fs::create_directories(workspace.experiment_folder("grid"));
  workspace.write_active({.name = "grid",
                          .executor = "slurm",
                          .cluster = scratch.write("cluster.yaml", "name: test\nslurm_bin: " + bin.string() + "\n")});
  const std::string told = status_text(workspace, plan, {pass()}, 0);
  EXPECT_THAT(told, AllOf(HasSubstr("stage " + plan.stages[0].key + " keeps away from n1 until "),
                          HasSubstr(": an attempt failed after 2 s: exit code 1\n")));
  EXPECT_THAT(status_json(workspace, plan, {pass()})["avoided_nodes"], SizeIs(1));
}

// Guards the health check's end: no failure of the stage's, a reason of its own, and everybody keeps away.
TEST_F(BadNodesTest, ANodeThatIsNotFitForWorkIsAvoidedByAllAndCountsAsNoFailure) {
  plan_stages(2);
  passes();
  write_file_atomically(workspace.log_file(plan.stages[0].key, 1),
                        "filo: Slurm job 100\nfilo: the node n1 is not fit for work: its clock is 900 s off\n");
  all_become("FAILED", unhealthy_node_exit << 8, 1);
  const auto statuses = passes();
  EXPECT_EQ(statuses[0].attempt, 2);
  EXPECT_EQ(statuses[0].counts.failures, 0);
  EXPECT_EQ(statuses[0].counts.requeues, 1);
  const auto end = workspace.outcome(plan.stages[0].key, 1);
  EXPECT_EQ(end->outcome, "lost");
  EXPECT_EQ(end->cause, "unhealthy_node");
  EXPECT_THAT(end->reason, HasSubstr("the node n1 is not fit for work: its clock is 900 s off (Slurm job 100"));
  EXPECT_THAT(calls("sbatch"), SizeIs(2)) << "one array, all of whose stages keep away from n1";
  EXPECT_THAT(text("arguments"), AllOf(HasSubstr("--exclude=n1\n"), HasSubstr("--array=0-1\n")));
}

TEST_F(BadNodesTest, AtMostHalfOfThePartitionIsAvoidedAndNothingForEver) {
  for (const char* node : {"n1", "n2", "n3"})
    add_bad_node(workspace, settings, {.node = node, .stage = "", .why = "x"});
  plan_stages(1);
  pass();
  EXPECT_THAT(text("arguments"), HasSubstr("--exclude=n2,n3\n"));
  Json file = read_json(workspace.bad_nodes_file("test"));
  for (auto& known : file["nodes"]) known["since"] = known["since"].get<double>() - 12 * 3600 - 1;
  write_file_atomically(workspace.bad_nodes_file("test"), file.dump());
  EXPECT_THAT(bad_nodes(workspace, settings), IsEmpty());
  settings.bad_nodes.expiry = "24:00:00";
  EXPECT_THAT(bad_nodes(workspace, settings), SizeIs(3));
  settings.bad_nodes.limit = 0;
  EXPECT_THAT(bad_nodes(workspace, settings), IsEmpty());
}

// Guards: a partition of two kinds of nodes, of which only those to avoid fit the request.
TEST_F(BadNodesTest, WhatIsRefusedWithoutTheseNodesIsSentWithThem) {
  add_bad_node(workspace, settings, {.node = "n1", .stage = "", .why = "x"});
  scratch.write(
      "bin/sbatch",
      "#!/bin/bash\nfor word; do case $word in --exclude=*) echo 'sbatch: error: Batch job submission failed: "
      "Requested node configuration is not available' >&2; exit 1 ;; esac; done\n" +
          std::string(fake_sbatch));
  fs::permissions(bin / "sbatch", fs::perms::owner_all);
  plan_stages(1);
  EXPECT_EQ(pass().state, StageState::queued);
  EXPECT_THAT(text("arguments"), Not(HasSubstr("--exclude")));
  EXPECT_THAT(executor().jobs(), SizeIs(1));
}

TEST_F(BadNodesTest, TheSettingsOwnExclusionStays) {
  settings.sbatch_options = {"--exclude=n7"};
  add_bad_node(workspace, settings, {.node = "n1", .stage = "", .why = "x"});
  plan_stages(1);
  pass();
  EXPECT_THAT(text("arguments"), HasSubstr("--exclude=n7,n1\n"));
}

TEST_F(BadNodesTest, AFileThatCannotBeReadHoldsNone) {
  fs::create_directories(workspace.slurm_folder());
  for (const char* text : {"", "[]", "{\"nodes\": 5}", "{\"nodes\": [{\"node\": 5}]}", "\xff"}) {
    write_file_atomically(workspace.bad_nodes_file("test"), text);
    EXPECT_THAT(bad_nodes(workspace, settings), IsEmpty()) << text;
  }
}

}  // namespace
}  // namespace filo
