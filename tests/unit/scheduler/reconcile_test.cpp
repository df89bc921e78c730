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

// Guards: what attempts leave of logs and events does not grow for ever, and what a search decides by stays.
TEST_F(Reconcile, LogsAndEventsOfWhatEndedAreMadeSmaller) {
  constexpr std::uint64_t most = 4 << 20;
  const PlannedStage& stage = plan.stage(key("features parts"));
  std::string log, events;
  while (log.size() <= 2 * most) log += "a line of a log\n";
  for (int step = 1; events.size() <= 2 * most; ++step)
    events += Json({{"event", "step"}, {"step", step}, {"seq", step}}).dump() + "\n";
  const auto size = [&](const std::filesystem::path& file) { return std::filesystem::file_size(file); };
  for (const bool keeps_steps : {true, false}) {
    FakeExecutor executor;
    std::vector<StageAssignment> assignments = {{&stage, &executor, nullptr, keeps_steps}};
    const auto pass_over_it = [&] { return reconcile(workspace, assignments, {&executor}, options).statuses[0]; };
    std::filesystem::remove(workspace.result_file(stage.key));
    std::filesystem::remove_all(workspace.attempts_folder(stage.key));
    std::filesystem::create_directory(workspace.attempts_folder(stage.key));
    for (int attempt = 1; attempt <= 2; ++attempt) {
      pass_over_it();
      write_file_atomically(workspace.log_file(stage.key, attempt), log);
      write_file_atomically(workspace.events_file(stage.key, attempt), events);
      if (attempt == 1) executor.end(stage.key, 75);
    }
    EXPECT_LE(size(workspace.log_file(stage.key, 1)), most);
    EXPECT_EQ(size(workspace.log_file(stage.key, 2)), log.size());
    EXPECT_EQ(size(workspace.events_file(stage.key, 1)), events.size());
    finish(executor, stage);
    EXPECT_EQ(pass_over_it().state, StageState::done);
    EXPECT_LE(size(workspace.log_file(stage.key, 2)), most);
    for (int attempt = 1; attempt <= 2; ++attempt)
      EXPECT_EQ(size(workspace.events_file(stage.key, attempt)) <= most, !keeps_steps) << attempt;
  }
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
