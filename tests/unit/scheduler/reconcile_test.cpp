#include "scheduler/control/reconcile.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler/control/requests.hpp"
#include "tests/unit/support/fake_executor.hpp"
#include "tests/unit/support/scratch.hpp"

namespace filo {
namespace {

using ::testing::HasSubstr;

// Stands for kill -9: not a filo::Error, so nothing handles it.
struct Killed {};

class Reconcile : public ::testing::Test {
 protected:
  Reconcile() : workspace((scratch.add_all(), scratch.workspace())), plan(make_plan(scratch.experiment(), workspace)) {
    save_plan(plan, workspace);
  }

  std::vector<StageStatus> pass(FakeExecutor& executor) { return reconcile(workspace, plan, executor, options); }

  StageStatus status(const std::vector<StageStatus>& statuses, const std::string& label) const {
    for (std::size_t i = 0; i < statuses.size(); ++i)
      if (plan.stages[i].label == label) return statuses[i];
    ADD_FAILURE() << label;
    return {};
  }
  std::string key(const std::string& label) const {
    for (const auto& stage : plan.stages)
      if (stage.label == label) return stage.key;
    return "";
  }
  // The stage's worker writes its result and exits 0.
  void finish(FakeExecutor& executor, const PlannedStage& stage) {
    write_result(workspace, stage.key, stage.kind, workspace.newest_attempt(stage.key));
    executor.end(stage.key, 0);
  }
  void finish_all_running(FakeExecutor& executor) {
    for (const Job& job : executor.jobs())
      if (job.state != JobState::ended) finish(executor, plan.stage(job.stage));
  }

  Scratch scratch;
  Workspace workspace;
  Plan plan;
  ReconcileOptions options;
};

TEST_F(Reconcile, RunsEachStageOnceInOrder) {
  FakeExecutor executor;
  EXPECT_EQ(status(pass(executor), "train parts").state, StageState::waiting);
  EXPECT_EQ(executor.running(), 2u);
  for (int i = 0; i < 3; ++i) {
    finish_all_running(executor);
    pass(executor);
  }
  EXPECT_TRUE(all_done(pass(executor)));
  EXPECT_EQ(executor.starts.size(), plan.stages.size());
  for (const auto& [stage, starts] : executor.starts) EXPECT_EQ(starts, 1) << stage;
}

// Guards: idempotence, and one question to the executor a pass.
TEST_F(Reconcile, ASecondPassChangesNothing) {
  FakeExecutor executor;
  pass(executor);
  const auto starts = executor.starts;
  executor.calls = 0;
  pass(executor);
  EXPECT_EQ(executor.starts, starts);
  EXPECT_EQ(executor.calls, 1);
}

TEST_F(Reconcile, StartsNoMoreThanThereIsRoomFor) {
  FakeExecutor executor;
  executor.room = 1;
  EXPECT_EQ(status(pass(executor), "features boards").state, StageState::queued);
  EXPECT_EQ(executor.running(), 1u);
}

TEST_F(Reconcile, RequeuesWhatStoppedEarly) {
  FakeExecutor executor;
  pass(executor);
  for (int attempt = 2; attempt <= 6; ++attempt) {  // more often than the limit of failures
    executor.end(key("features parts"), 75);
    const auto stage = status(pass(executor), "features parts");
    EXPECT_EQ(stage.state, StageState::running);
    EXPECT_EQ(stage.attempt, attempt);
    EXPECT_EQ(stage.counts.failures, 0);
  }
}

// Guards: a coordinator that died with its workers is succeeded by another, without counting that as failures.
TEST_F(Reconcile, RequeuesWhatWasLost) {
  FakeExecutor dead("dead");
  pass(dead);
  FakeExecutor executor;
  const auto stage = status(pass(executor), "features parts");
  EXPECT_EQ(stage.attempt, 2);
  EXPECT_EQ(stage.counts.failures, 0);
  EXPECT_EQ(workspace.outcome(key("features parts"), 1)->outcome, "lost");
}

// Guards: two runs on one workspace do not run a stage twice.
TEST_F(Reconcile, LeavesAloneWhatAnotherProcessRuns) {
  FakeExecutor other("other");
  pass(other);
  FakeExecutor executor;
  executor.alive_owner = "other";
  const auto stage = status(pass(executor), "features parts");
  EXPECT_EQ(stage.state, StageState::running);
  EXPECT_THAT(stage.reason, HasSubstr("run by fake"));
  EXPECT_TRUE(executor.starts.empty());
}

// Guards: a stage that always fails is given up after k times, and only what needs it is blocked.
TEST_F(Reconcile, FailingThreeTimesBlocksOnlyDependents) {
  FakeExecutor executor;
  pass(executor);
  finish_all_running(executor);
  pass(executor);
  for (int i = 0; i < 3; ++i) {
    executor.end(key("train parts"), 1);
    pass(executor);
  }
  for (int i = 0; i < 3; ++i) {
    for (const Job& job : executor.jobs())
      if (job.state != JobState::ended && job.stage != key("train parts")) finish(executor, plan.stage(job.stage));
    pass(executor);
  }
  const auto statuses = pass(executor);
  EXPECT_EQ(status(statuses, "train parts").state, StageState::failed);
  EXPECT_EQ(status(statuses, "train parts").counts.failures, 3);
  EXPECT_EQ(status(statuses, "train parts").reason, "exit code 1");
  EXPECT_EQ(status(statuses, "evaluate parts on boards").state, StageState::blocked);
  EXPECT_THAT(status(statuses, "evaluate parts on boards").reason, HasSubstr("needs train parts"));
  EXPECT_EQ(status(statuses, "evaluate boards on parts").state, StageState::done);
  EXPECT_TRUE(is_settled(statuses));
  EXPECT_FALSE(all_done(statuses));
  EXPECT_EQ(executor.starts[key("train parts")], 3);

  retry_all(workspace, plan);  // a new `filo run`
  EXPECT_EQ(status(pass(executor), "train parts").state, StageState::running);
}

// Guards: exit code 0 is not success, and a stale attempt's result is not either.
TEST_F(Reconcile, BelievesNoExitCodeAlone) {
  FakeExecutor executor;
  pass(executor);
  executor.end(key("features parts"), 0);
  auto stage = status(pass(executor), "features parts");
  EXPECT_EQ(stage.counts.failures, 1);
  EXPECT_EQ(stage.attempt, 2);
  EXPECT_THAT(stage.reason, HasSubstr("without a valid result.json"));
  write_result(workspace, stage.key, StageKind::features, 1);  // attempt 1 wakes up
  executor.end(stage.key, 1);
  stage = status(pass(executor), "features parts");
  EXPECT_EQ(stage.counts.failures, 2);
  EXPECT_EQ(stage.attempt, 3);
}

// Guards: what the worker says of its failure is what people read.
TEST_F(Reconcile, TellsTheWorkersOwnReason) {
  FakeExecutor executor;
  pass(executor);
  const std::string stage = key("features parts");
  write_file_atomically(workspace.events_file(stage, 1),
                        R"({"seq": 0, "event": "failed", "message": "data: x.png: torn"})"
                        "\n");
  executor.end(stage, 1);
  EXPECT_EQ(status(pass(executor), "features parts").reason, "data: x.png: torn");
}

TEST_F(Reconcile, AStageThatCannotBeStartedFails) {
  FakeExecutor executor;
  executor.refuse = true;
  for (int i = 0; i < 3; ++i) pass(executor);
  const auto stage = status(pass(executor), "features parts");
  EXPECT_EQ(stage.state, StageState::failed);
  EXPECT_EQ(stage.reason, "fake: cannot start");
}

// Guards: killed between any two steps, the same process or a successor goes on; nothing is lost, nothing runs twice at
// once, and no kill counts as a failure.
TEST_F(Reconcile, AKillAtAnyPointLosesNothing) {
  int kills = 0;
  for (int kill_at = 1; kill_at <= 18; ++kill_at) {
    const Scratch fresh;
    fresh.add_all();
    const Workspace place = fresh.workspace();
    const Plan made = make_plan(fresh.experiment(), place);
    save_plan(made, place);
    auto executor = std::make_unique<FakeExecutor>("first");
    int points = 0;
    ReconcileOptions killing;
    killing.at_point = [&](std::string_view) {
      if (++points == kill_at) throw Killed();
    };
    bool done = false;
    for (int i = 0; i < 30 && !done; ++i) {
      try {
        done = all_done(reconcile(place, made, *executor, killing));
      } catch (const Killed&) {
        ++kills;
        executor = std::make_unique<FakeExecutor>("second");  // its children died with it
      }
      std::map<std::string, int> running;
      for (const Job& job : executor->jobs())
        if (job.state != JobState::ended) {
          EXPECT_EQ(++running[job.stage], 1);
          EXPECT_EQ(job.attempt, place.newest_attempt(job.stage));
          write_result(place, job.stage, made.stage(job.stage).kind, job.attempt);
        }
      for (const auto& [stage, count] : running) executor->end(stage, 0);
    }
    EXPECT_TRUE(done) << "killed at point " << kill_at;
    for (const auto& stage : made.stages) {
      EXPECT_LE(place.newest_attempt(stage.key), 2) << stage.label;
      const auto end = place.outcome(stage.key, 1);
      EXPECT_TRUE(!end || end->outcome != "failed") << stage.label;
    }
  }
  EXPECT_EQ(kills, 18);  // three batches of two stages: attempt made and end recorded for each, claimed, started
}

// Guards: one call to the executor for all that a pass starts, so that Slurm can make job arrays of it.
TEST_F(Reconcile, StartsWhatIsReadyInOneBatch) {
  FakeExecutor executor;
  pass(executor);
  EXPECT_EQ(executor.running(), 2u);
  EXPECT_EQ(executor.batches, 1);
}

// Guards: what a cluster does to jobs is no failure of the stage.
TEST_F(Reconcile, RequeuesAtOnceAfterPreemptionAndLoss) {
  FakeExecutor executor;
  const std::string stage = key("features parts");
  pass(executor);
  for (const EndCause cause : {EndCause::preempted, EndCause::node_failure, EndCause::vanished, EndCause::preempted}) {
    executor.end(stage, 0, cause);
    const auto now = status(pass(executor), "features parts");
    EXPECT_EQ(now.state, StageState::running);
    EXPECT_EQ(now.counts.failures, 0);
    EXPECT_EQ(workspace.outcome(stage, now.attempt - 1)->cause, to_string(cause));
    EXPECT_EQ(workspace.outcome(stage, now.attempt - 1)->outcome, "lost");
  }
  EXPECT_EQ(limits_used(status(pass(executor), "features parts").counts, {}), "requeued 4 of 50 times");
}

// Guards: a requeue without end is a failure too, and the limit is told.
TEST_F(Reconcile, GivesUpAfterTheLimitOfRequeues) {
  FakeExecutor executor;
  for (auto& stage : plan.stages) stage.resources.attempts.requeues = 3;
  pass(executor);
  for (int i = 0; i < 3; ++i) {
    executor.end(key("features parts"), 0, EndCause::preempted);
    pass(executor);
  }
  const auto now = status(pass(executor), "features parts");
  EXPECT_EQ(now.state, StageState::failed);
  EXPECT_EQ(now.reason, "stopped or lost 3 times, last: preempted");
}

// Guards: each attempt that ran out of time gets twice the time of the one before, then the stage is given up; all of
// it from the files, by another coordinator each time.
TEST_F(Reconcile, ATimeoutDoublesTheTime) {
  const std::string stage = key("features parts");
  std::vector<std::string> times;
  for (int i = 0; i < 4; ++i) {
    FakeExecutor executor;
    const auto now = status(pass(executor), "features parts");
    ASSERT_EQ(now.state, StageState::running);
    times.push_back(executor.given[stage].time);
    executor.end(stage, 0, EndCause::timeout);
    options.start_new = false;
    pass(executor);
    options.start_new = true;
  }
  EXPECT_EQ(times, (std::vector<std::string>{"01:00:00", "02:00:00", "04:00:00", "08:00:00"}));
  FakeExecutor executor;
  const auto now = status(pass(executor), "features parts");
  EXPECT_EQ(now.state, StageState::failed);
  EXPECT_EQ(now.counts.failures, 0);
  EXPECT_THAT(now.reason, HasSubstr("ran out of time 4 times: ran longer than its time of 08:00:00"));
}

// Guards: what an executor allows bounds the growth, and the reason tells the time that it had.
TEST_F(Reconcile, TimeGrowsNoFurtherThanTheExecutorAllows) {
  FakeExecutor executor;
  executor.longest = "01:30:00";
  const std::string stage = key("features parts");
  pass(executor);
  EXPECT_EQ(executor.given[stage].time, "01:00:00");
  executor.end(stage, 0, EndCause::timeout);
  pass(executor);
  EXPECT_EQ(executor.given[stage].time, "01:30:00");
  executor.end(stage, 0, EndCause::timeout);
  EXPECT_THAT(status(pass(executor), "features parts").reason, HasSubstr("its time of 01:30:00"));
}

// Guards: resources.attempts, each stage its own.
TEST_F(Reconcile, TheExperimentSaysHowOftenAStageMayFail) {
  FakeExecutor executor;
  plan.stages[0].resources.attempts.failures = 1;
  pass(executor);
  executor.end(key("features parts"), 3);
  executor.end(key("features boards"), 3);
  const auto statuses = pass(executor);
  EXPECT_EQ(status(statuses, "features parts").state, StageState::failed);
  EXPECT_EQ(status(statuses, "features boards").state, StageState::running);
}

TEST_F(Reconcile, OutOfMemoryGivesHalfAsMuchAgain) {
  FakeExecutor executor;
  const std::string stage = key("features parts");
  pass(executor);
  EXPECT_EQ(executor.given[stage].memory, "4G");
  executor.end(stage, 0, EndCause::out_of_memory);
  const auto now = status(pass(executor), "features parts");
  EXPECT_EQ(executor.given[stage].memory, "6G");
  EXPECT_EQ(executor.given[stage].time, "01:00:00");
  EXPECT_EQ(now.counts.out_of_memory, 1);
  EXPECT_EQ(limits_used(now.counts, {}), "out of memory 1 of 4 times");
  executor.end(stage, 0, EndCause::out_of_memory);
  pass(executor);
  EXPECT_EQ(executor.given[stage].memory, "9G");
}

// Guards: what somebody cancelled outside is not started again behind their back, until they say so.
TEST_F(Reconcile, CancelledFromOutsideStaysCancelledUntilRetry) {
  FakeExecutor executor;
  const std::string stage = key("features parts");
  pass(executor);
  executor.end(stage, 0, EndCause::cancelled);
  pass(executor);
  const auto statuses = pass(executor);
  EXPECT_EQ(status(statuses, "features parts").state, StageState::cancelled);
  EXPECT_EQ(status(statuses, "features parts").reason, "cancelled from outside");
  EXPECT_EQ(status(statuses, "train parts").state, StageState::blocked);
  EXPECT_THAT(status(statuses, "train parts").reason, HasSubstr("which was cancelled"));
  EXPECT_EQ(executor.starts[stage], 1);
  workspace.retry(stage);
  EXPECT_EQ(status(pass(executor), "features parts").state, StageState::running);
}

// Guards: a request in a file is acted on by whoever passes next, and stands until somebody retries.
TEST_F(Reconcile, ACancelRequestKillsAndStands) {
  FakeExecutor executor;
  const std::string stage = key("features parts");
  pass(executor);
  workspace.write_request(stage, {"cancel", "wrong data"});
  EXPECT_EQ(status(pass(executor), "features parts").state, StageState::running);
  EXPECT_EQ(executor.killed, std::vector<std::string>{stage + " 1"});
  executor.end(stage, 1);
  for (int i = 0; i < 2; ++i) {
    const auto now = status(pass(executor), "features parts");
    EXPECT_EQ(now.state, StageState::cancelled);
    EXPECT_EQ(now.reason, "wrong data");
  }
  EXPECT_EQ(workspace.outcome(stage, 1)->outcome, "cancelled");
  workspace.retry(stage);
  const auto again = status(pass(executor), "features parts");
  EXPECT_EQ(again.attempt, 2);
  EXPECT_EQ(again.counts.failures, 0);
}

// Guards: a search's stop is a snapshot and exit 75, and not started again.
TEST_F(Reconcile, AStopRequestLetsItWriteASnapshot) {
  FakeExecutor executor;
  pass(executor);
  finish_all_running(executor);
  pass(executor);
  const std::string stage = key("train parts");
  workspace.write_request(stage, {"stop", "7th of 9"});
  pass(executor);
  EXPECT_EQ(executor.stopped, std::vector<std::string>{stage + " 1"});
  EXPECT_TRUE(executor.killed.empty());
  executor.end(stage, 75);
  pass(executor);
  const auto statuses = pass(executor);
  EXPECT_EQ(status(statuses, "train parts").state, StageState::stopped);
  EXPECT_EQ(status(statuses, "train parts").reason, "7th of 9");
  EXPECT_EQ(executor.starts[stage], 1);
  EXPECT_EQ(status(statuses, "evaluate parts on boards").state, StageState::blocked);
}

// Guards: one that was to stop, but finished first, is done.
TEST_F(Reconcile, AResultOutweighsARequest) {
  FakeExecutor executor;
  pass(executor);
  const std::string stage = key("features parts");
  workspace.write_request(stage, {"cancel", "too late"});
  finish(executor, plan.stage(stage));
  EXPECT_EQ(status(pass(executor), "features parts").state, StageState::done);
}

// Guards: a query that failed says nothing about jobs.
TEST_F(Reconcile, AnExecutorThatDoesNotAnswerChangesNothing) {
  FakeExecutor executor;
  pass(executor);
  const auto starts = executor.starts;
  executor.silent = true;
  std::vector<StageAssignment> assignments;
  for (const auto& stage : plan.stages) assignments.push_back({&stage, &executor, nullptr});
  const PassResult result = reconcile(workspace, assignments, {&executor}, options);
  EXPECT_EQ(status(result.statuses, "features parts").state, StageState::running);
  ASSERT_EQ(result.troubles.size(), 1u);
  EXPECT_EQ(result.troubles[0], "fake: fake: does not answer");
  EXPECT_FALSE(workspace.outcome(key("features parts"), 1));
  executor.silent = false;
  pass(executor);
  EXPECT_EQ(executor.starts, starts);
}

// Guards: a copy that runs on although a newer attempt took its place (a node that came back) is ended.
TEST_F(Reconcile, EndsASupersededCopy) {
  FakeExecutor executor;
  const std::string stage = key("features parts");
  pass(executor);
  executor.end(stage, 0, EndCause::node_failure);
  pass(executor);
  executor.list({.stage = stage, .attempt = 1});
  EXPECT_EQ(status(pass(executor), "features parts").attempt, 2);
  EXPECT_EQ(executor.killed, std::vector<std::string>{stage + " 1"});
}

// Guards: a job that waits in a cluster's queue is not running, and is not started again.
TEST_F(Reconcile, APendingJobIsQueued) {
  FakeExecutor executor;
  const std::string stage = key("features parts");
  workspace.make_attempt(stage);
  executor.list({.stage = stage, .attempt = 1, .state = JobState::pending, .where = "Slurm job 12"});
  const auto now = status(pass(executor), "features parts");
  EXPECT_EQ(now.state, StageState::queued);
  EXPECT_EQ(now.where, "Slurm job 12");
  EXPECT_EQ(executor.starts.count(stage), 0u);
}

// Guards: deaths of coordinators before anything was started do not use up a stage's limits.
TEST_F(Reconcile, AnAttemptThatNeverStartedDoesNotCount) {
  const std::string stage = key("features parts");
  for (int i = 0; i < 60; ++i) {
    workspace.make_attempt(stage);
    workspace.write_outcome(stage, i + 1, {"lost", "vanished", "attempt was never started"});
  }
  FakeExecutor executor;
  const auto now = status(pass(executor), "features parts");
  EXPECT_EQ(now.state, StageState::running);
  EXPECT_EQ(now.counts.requeues, 0);
}

TEST_F(Reconcile, StopsStartingWhenTold) {
  FakeExecutor executor;
  options.start_new = false;
  pass(executor);
  EXPECT_TRUE(executor.starts.empty());
}

TEST_F(Reconcile, ObservationAgreesWithThePass) {
  FakeExecutor executor;
  executor.alive_owner = "me";
  pass(executor);
  EXPECT_EQ(status(observe(workspace, plan), "features parts").state, StageState::running);
  finish_all_running(executor);
  pass(executor);
  executor.end(key("train parts"), 1);
  options.start_new = false;
  pass(executor);
  const auto seen = observe(workspace, plan);
  EXPECT_EQ(status(seen, "features parts").state, StageState::done);
  EXPECT_EQ(status(seen, "train parts").state, StageState::queued);
  EXPECT_EQ(status(seen, "train parts").counts.failures, 1);
  EXPECT_EQ(status(seen, "train parts").reason, "exit code 1");
  EXPECT_EQ(status(seen, "evaluate parts on boards").state, StageState::waiting);
}

}  // namespace
}  // namespace filo
