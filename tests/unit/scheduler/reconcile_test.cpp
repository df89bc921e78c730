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
    if (silent) throw Error("fake", "does not answer");
    reserved.clear();
    return jobs_;
  }
  std::string name() const override { return "fake"; }
  bool reserve(const ResourceSettings& resources) override {
    reserved.push_back(resources);
    return static_cast<int>(running() + reserved.size()) <= room;
  }
  std::vector<Json> prepare(const std::vector<StartRequest>& requests) override {
    return std::vector<Json>(requests.size(), Json{{"executor", "fake"}, {"host", owner_}});
  }
  bool may_be_running(const Json& claim, double) const override { return claim.value("host", "") == alive_owner; }
  std::vector<std::string> start(const std::vector<StartRequest>& requests, const std::vector<Json>& claims) override {
    EXPECT_EQ(requests.size(), claims.size());
    ++batches;
    for (const auto& request : requests) {
      if (refuse) continue;
      ++starts[request.stage->key];
      jobs_.push_back({.stage = request.stage->key, .attempt = request.attempt});
    }
    reserved.clear();
    return std::vector<std::string>(requests.size(), refuse ? "fake: cannot start" : "");
  }
  void stop(const std::string& stage, int attempt) override { ask(stage, attempt, stopped); }
  void kill(const std::string& stage, int attempt) override { ask(stage, attempt, killed); }
  void forget(const std::string& stage, int attempt) override {
    std::erase_if(jobs_, [&](const Job& job) { return job.stage == stage && job.attempt == attempt; });
  }

  std::size_t running() const {
    return static_cast<std::size_t>(
        std::count_if(jobs_.begin(), jobs_.end(), [](const Job& job) { return job.state != JobState::ended; }));
  }
  void end(const std::string& stage, int exit_code, EndCause cause = EndCause::exited) {
    for (auto& job : jobs_)
      if (job.stage == stage && job.state != JobState::ended) {
        job.state = JobState::ended;
        job.cause = cause;
        job.exit_code = exit_code;
      }
  }
  void vanish() { jobs_.clear(); }
  void list(const Job& job) { jobs_.push_back(job); }

  std::map<std::string, int> starts;
  int room = 100;
  int calls = 0;
  int batches = 0;
  bool refuse = false;
  bool silent = false;
  std::vector<ResourceSettings> reserved;
  std::vector<std::string> stopped;  // "KEY ATTEMPT"
  std::vector<std::string> killed;
  std::string alive_owner;

 private:
  void ask(const std::string& stage, int attempt, std::vector<std::string>& asked) {
    asked.push_back(stage + " " + std::to_string(attempt));
    for (auto& job : jobs_)
      if (job.stage == stage && job.attempt == attempt) job.asked_to_stop = true;
  }

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
      const auto end = place.end(stage.key, 1);
      EXPECT_TRUE(!end || end->outcome != "failed") << stage.label;
    }
  }
  EXPECT_EQ(kills, 18);  // three batches of two stages: attempt made and end recorded for each, claimed, started
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
