#include "scheduler/reconcile.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scratch.hpp"

namespace filo {
namespace {

using ::testing::HasSubstr;

// Stands for kill -9: not a filo::Error, so nothing handles it.
struct Killed {};

// Jobs that end when the test says so; `starts` counts how often each stage was started.
class FakeExecutor : public Executor {
 public:
  explicit FakeExecutor(std::string owner = "me") : owner_(std::move(owner)) {}

  std::vector<Job> jobs() override {
    ++calls;
    return jobs_;
  }
  bool has_room(const ResourceSettings&) override { return static_cast<int>(running()) < room; }
  Json claim() const override { return {{"host", owner_}}; }
  bool may_be_running(const Json& claim, double) const override { return claim.value("host", "") == alive_owner; }
  void start(const PlannedStage& stage, int attempt) override {
    if (refuse) throw Error("fake", "cannot start");
    ++starts[stage.key];
    jobs_.push_back({.stage = stage.key, .attempt = attempt});
  }
  void forget(const std::string& stage, int attempt) override {
    std::erase_if(jobs_, [&](const Job& job) { return job.stage == stage && job.attempt == attempt; });
  }

  std::size_t running() const {
    return static_cast<std::size_t>(
        std::count_if(jobs_.begin(), jobs_.end(), [](const Job& job) { return job.running; }));
  }
  void end(const std::string& stage, int exit_code) {
    for (auto& job : jobs_)
      if (job.stage == stage && job.running) {
        job.running = false;
        job.exit_code = exit_code;
      }
  }
  void vanish() { jobs_.clear(); }

  std::map<std::string, int> starts;
  int room = 100;
  int calls = 0;
  bool refuse = false;
  std::string alive_owner;

 private:
  std::string owner_;
  std::vector<Job> jobs_;
};

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
      if (job.running) finish(executor, plan.stage(job.stage));
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
    EXPECT_EQ(stage.failures, 0);
  }
}

// Guards: a coordinator that died with its workers is succeeded by another, without counting that as failures.
TEST_F(Reconcile, RequeuesWhatWasLost) {
  FakeExecutor dead("dead");
  pass(dead);
  FakeExecutor executor;
  const auto stage = status(pass(executor), "features parts");
  EXPECT_EQ(stage.attempt, 2);
  EXPECT_EQ(stage.failures, 0);
  EXPECT_EQ(workspace.end(key("features parts"), 1)->outcome, "lost");
}

// Guards: two runs on one workspace do not run a stage twice.
TEST_F(Reconcile, LeavesAloneWhatAnotherProcessRuns) {
  FakeExecutor other("other");
  pass(other);
  FakeExecutor executor;
  executor.alive_owner = "other";
  const auto stage = status(pass(executor), "features parts");
  EXPECT_EQ(stage.state, StageState::running);
  EXPECT_THAT(stage.reason, HasSubstr("run by other"));
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
      if (job.running && job.stage != key("train parts")) finish(executor, plan.stage(job.stage));
    pass(executor);
  }
  const auto statuses = pass(executor);
  EXPECT_EQ(status(statuses, "train parts").state, StageState::failed);
  EXPECT_EQ(status(statuses, "train parts").failures, 3);
  EXPECT_EQ(status(statuses, "train parts").reason, "exit code 1");
  EXPECT_EQ(status(statuses, "evaluate parts on boards").state, StageState::blocked);
  EXPECT_THAT(status(statuses, "evaluate parts on boards").reason, HasSubstr("needs train parts"));
  EXPECT_EQ(status(statuses, "evaluate boards on parts").state, StageState::done);
  EXPECT_TRUE(is_settled(statuses));
  EXPECT_FALSE(all_done(statuses));
  EXPECT_EQ(executor.starts[key("train parts")], 3);

  options.forgiven = forgive_all(workspace, plan);  // a new `filo run`
  EXPECT_EQ(status(pass(executor), "train parts").state, StageState::running);
}

// Guards: exit code 0 is not success, and a stale attempt's result is not either.
TEST_F(Reconcile, BelievesNoExitCodeAlone) {
  FakeExecutor executor;
  pass(executor);
  executor.end(key("features parts"), 0);
  auto stage = status(pass(executor), "features parts");
  EXPECT_EQ(stage.failures, 1);
  EXPECT_EQ(stage.attempt, 2);
  EXPECT_THAT(stage.reason, HasSubstr("without a valid result.json"));
  write_result(workspace, stage.key, StageKind::features, 1);  // attempt 1 wakes up
  executor.end(stage.key, 1);
  stage = status(pass(executor), "features parts");
  EXPECT_EQ(stage.failures, 2);
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
  for (int kill_at = 1; kill_at < 27; ++kill_at) {
    const Scratch fresh;
    fresh.add_all();
    const Workspace place = fresh.workspace();
    const Plan made = make_plan(fresh.experiment(), place);
    save_plan(made, place);
    auto executor = std::make_unique<FakeExecutor>("first");
    int points = 0;
    ReconcileOptions killing;
    killing.at_point = [&](const std::string&) {
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
        if (job.running) {
          EXPECT_EQ(++running[job.stage], 1);
          EXPECT_EQ(job.attempt, place.newest_attempt(job.stage));
          write_result(place, job.stage, made.stage(job.stage).kind, job.attempt);
        }
      for (const auto& [stage, count] : running) executor->end(stage, 0);
    }
    EXPECT_TRUE(done) << "killed at point " << kill_at;
    for (const auto& stage : made.stages) {
      EXPECT_LE(place.newest_attempt(stage.key), 2) << stage.label;
      const auto end = place.end(stage.key, 1);
      EXPECT_TRUE(!end || end->outcome != "failed") << stage.label;
    }
  }
  EXPECT_GE(kills, 20);  // 6 stages with 4 points each
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
  EXPECT_EQ(status(observe(workspace, plan, executor), "features parts").state, StageState::running);
  finish_all_running(executor);
  pass(executor);
  executor.end(key("train parts"), 1);
  options.start_new = false;
  pass(executor);
  const auto seen = observe(workspace, plan, executor);
  EXPECT_EQ(status(seen, "features parts").state, StageState::done);
  EXPECT_EQ(status(seen, "train parts").state, StageState::failed);
  EXPECT_EQ(status(seen, "evaluate parts on boards").state, StageState::waiting);
}

}  // namespace
}  // namespace filo
