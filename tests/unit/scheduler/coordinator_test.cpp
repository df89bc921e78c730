#include "scheduler/control/coordinator.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include "scheduler/control/requests.hpp"
#include "scheduler/report/status.hpp"
#include "tests/unit/support/fake_executor.hpp"
#include "tests/unit/support/scratch.hpp"
#include "workspace/run_file.hpp"

namespace filo {
namespace {

using ::testing::HasSubstr;

class Coordination : public ::testing::Test {
 protected:
  Coordination() : workspace((scratch.add_all(), scratch.workspace())) {
    setenv("FILO_INDEX", (scratch.folder / "index.sqlite").c_str(), 1);
  }
  ~Coordination() override { unsetenv("FILO_INDEX"); }

  Plan add(const std::string& name, const std::string& more = "", const std::string& executor = "slurm") {
    const std::string path = scratch.write(
        name + ".yaml",
        "name: " + name + "\ndata: {a: parts, b: boards}\nfolds: [{train: a, test: b}]\nmodel: {clip: " +
            (scratch.folder / "clip").string() + ", image_size: 112, prompts: {descriptions: none}}\n" + more);
    const Plan plan = make_plan(load_experiment(path), workspace);
    save_plan(plan, workspace);
    if (!executor.empty()) workspace.write_active({.name = name, .executor = executor, .cluster = executor + ".yaml"});
    return plan;
  }

  // Every executor that the factory makes is one of these.
  ExecutorFactory factory() {
    return [this](const ActiveExperiment& experiment) -> std::unique_ptr<Executor> {
      if (experiment.executor == "broken") throw Error("test", "no such cluster");
      auto made = std::make_unique<FakeExecutor>("me", experiment.executor);
      made->alive_owner = alive;
      executors[experiment.executor] = made.get();
      return made;
    };
  }
  Coordinator coordinator(CoordinatorOptions options = {}) { return {workspace, factory(), std::move(options)}; }

  void finish_all_running() {
    for (auto& [name, executor] : executors)
      for (const Job& job : executor->jobs())
        if (job.state != JobState::ended) {
          write_result(workspace, job.stage, stage_kind(read_json(workspace.spec_file(job.stage)).at("kind")),
                       job.attempt);
          executor->end(job.stage, 0);
        }
  }
  static StageState state(const std::vector<StageStatus>& statuses, const Plan& plan, const std::string& label) {
    for (std::size_t i = 0; i < statuses.size(); ++i)
      if (plan.stages[i].label == label) return statuses[i].state;
    ADD_FAILURE() << label;
    return StageState::waiting;
  }
  static std::string key(const Plan& plan, const std::string& label) {
    for (const auto& stage : plan.stages)
      if (stage.label == label) return stage.key;
    ADD_FAILURE() << label;
    return "";
  }

  Scratch scratch;
  Workspace workspace;
  std::string alive;  // whose claims hold
  std::map<std::string, FakeExecutor*> executors;
};

// Guards: stages that two experiments share are run once, for both.
TEST_F(Coordination, SharedStagesRunOnce) {
  const Plan one = add("one");
  const Plan two = add("two", "evaluate: {gaussian_sigma: 2}\n", "other");
  Coordinator both = coordinator();
  for (int i = 0; i < 4; ++i) {
    const auto pass = both.pass();
    if (i == 0) {
      EXPECT_EQ(pass.experiments, 2u);
      EXPECT_EQ(pass.stages, one.stages.size() + 1);  // all but the evaluation are the same
    }
    finish_all_running();
  }
  std::map<std::string, int> starts;
  for (const auto& [name, executor] : executors)
    for (const auto& [stage, count] : executor->starts) starts[stage] += count;
  EXPECT_EQ(starts.size(), one.stages.size() + 1);
  for (const auto& [stage, count] : starts) EXPECT_EQ(count, 1) << stage;
  EXPECT_EQ(executors["other"]->starts.size(), 1u);
}

// Guards every running job of the workspace from a second submission that writes the cluster file's path otherwise.
TEST_F(Coordination, OneClusterHasOneExecutor) {
  scratch.write("clusters/slurm.yaml", "name: slurm\n");
  scratch.write("copies/slurm.yaml", "name: slurm\n");
  scratch.write("others/slurm.yaml", "name: slurm\npartition: long\n");
  const auto add_on = [&](const std::string& name, const std::string& file, const std::string& more) {
    const Plan plan = add(name, more);
    workspace.write_active(
        {.name = name, .executor = "slurm", .cluster = (scratch.folder / "clusters" / file).string()});
    return plan;
  };
  const Plan one = add_on("one", "slurm.yaml", "");
  add_on("two", "./slurm.yaml", "train: {seed: 1}\n");
  add_on("three", "../copies/slurm.yaml", "train: {seed: 2}\n");
  int made = 0;
  FakeExecutor* first = nullptr;
  Coordinator all(workspace,
                  [&](const ActiveExperiment&) {
                    auto executor = std::make_unique<FakeExecutor>("me", "slurm of a name");
                    if (made++ == 0) first = executor.get();
                    return executor;
                  },
                  {});
  EXPECT_TRUE(all.pass().troubles.empty());
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->calls, 1);
  EXPECT_EQ(first->running(), 2u);  // the features of all three

  add_on("four", "../others/slurm.yaml", "train: {seed: 3}\n");
  const auto pass = all.pass();
  ASSERT_EQ(pass.troubles.size(), 1u);
  EXPECT_THAT(pass.troubles[0], HasSubstr("four: scheduler: "));
  EXPECT_THAT(pass.troubles[0], HasSubstr("others/slurm.yaml"));
  EXPECT_THAT(pass.troubles[0], HasSubstr("clusters/slurm.yaml"));
  EXPECT_EQ(first->killed, std::vector<std::string>());
}

// Guards a job that two executors list: only an older attempt's is a copy that goes.
TEST_F(Coordination, TheSameAttemptListedTwiceRunsOn) {
  const Plan one = add("one");
  add("two", "evaluate: {gaussian_sigma: 2}\n", "other");
  Coordinator all = coordinator();
  all.pass();
  const Job job = executors["slurm"]->jobs().at(0);
  executors["other"]->list(job);
  all.pass();
  EXPECT_EQ(executors["slurm"]->killed, std::vector<std::string>());
  EXPECT_EQ(executors["other"]->killed, std::vector<std::string>());
}

// Guards: what is done needs nobody to look after it, and its statuses are told all the same.
TEST_F(Coordination, AFinishedExperimentIsNoLongerActive) {
  const Plan plan = add("one");
  Coordinator all = coordinator();
  for (int i = 0; i < 5; ++i) {
    all.pass();
    finish_all_running();
  }
  EXPECT_FALSE(workspace.active("one"));
  EXPECT_EQ(all.pass().experiments, 0u);
  EXPECT_TRUE(all_done(all.statuses("one")));
}

TEST_F(Coordination, AnExecutorThatCannotBeHadIsTold) {
  add("one", "", "broken");
  const Plan other = add("two");
  Coordinator all = coordinator();
  const auto pass = all.pass();
  ASSERT_EQ(pass.troubles.size(), 1u);
  EXPECT_THAT(pass.troubles[0], HasSubstr("one: test: no such cluster"));
  EXPECT_EQ(executors["slurm"]->running(), 2u) << "the others go on";
  EXPECT_TRUE(workspace.active("one"));
}

// Guards: `filo cancel` kills what only this experiment needs, and ends it.
TEST_F(Coordination, CancellingAnExperimentSparesWhatOthersNeed) {
  const Plan one = add("one", "train: {seed: 1}\n");
  Coordinator all = coordinator();
  all.pass();
  finish_all_running();
  all.pass();
  const Plan two = add("two", "train: {seed: 2}\n");
  all.pass();
  EXPECT_EQ(executors["slurm"]->running(), 2u);  // both trainings
  const auto cancelled = cancel_experiment(workspace, "one", "enough");
  EXPECT_EQ(cancelled, std::vector<std::string>{key(one, "train parts")});
  all.pass();
  EXPECT_EQ(executors["slurm"]->killed, std::vector<std::string>{key(one, "train parts") + " 1"});
  EXPECT_TRUE(workspace.active("one")) << "something of it still runs";
  executors["slurm"]->end(key(one, "train parts"), 1);
  all.pass();
  EXPECT_FALSE(workspace.active("one"));
  EXPECT_EQ(state(all.statuses("one"), one, "train parts"), StageState::cancelled);
  EXPECT_EQ(state(all.statuses("one"), one, "evaluate parts on boards"), StageState::blocked);
  EXPECT_EQ(state(all.statuses("two"), two, "train parts"), StageState::running);

  EXPECT_EQ(retry_experiment(workspace, "one"), cancelled);
  workspace.write_active({.name = "one", .executor = "slurm", .cluster = "slurm.yaml"});
  all.pass();
  EXPECT_EQ(state(all.statuses("one"), one, "train parts"), StageState::running);
}

// Guards: a cancel that comes too late says so, and leaves no trace that a later retry would have to remove.
TEST_F(Coordination, CancellingWhatIsDoneChangesNothing) {
  const Plan plan = add("one");
  Coordinator all = coordinator();
  for (int i = 0; i < 3; ++i) {
    all.pass();
    finish_all_running();
  }
  EXPECT_FALSE(cancel_experiment(workspace, "one", "too late"));
  ASSERT_TRUE(workspace.active("one"));
  EXPECT_FALSE(workspace.active("one")->cancelled);
  for (const auto& stage : plan.stages) EXPECT_FALSE(workspace.request(stage.key)) << stage.label;
  all.pass();
  EXPECT_TRUE(all_done(all.statuses("one")));
  EXPECT_EQ(status_json(workspace, plan, all.statuses("one"))["settled"], true);
}

TEST_F(Coordination, ACancelledExperimentStartsNothing) {
  const Plan plan = add("one");
  cancel_experiment(workspace, "one", "enough");
  Coordinator all = coordinator();
  all.pass();
  EXPECT_TRUE(executors["slurm"]->starts.empty());
  EXPECT_FALSE(workspace.active("one"));
}

// Guards: max_concurrent counts trainings only, whatever room the executor has.
TEST_F(Coordination, MaxConcurrentHoldsTrainingsBack) {
  const Plan plan = add("one",
                        "seeds: [1, 2, 3, 4, 5]\n"
                        "search: {method: random, max_trials: 5, max_concurrent: 2, space: "
                        "{train.main.learning_rate.prompts: {log_uniform: [1.0e-5, 1.0e-2]}}}\n");
  ASSERT_EQ(plan.max_concurrent(), 2);
  Coordinator all = coordinator();
  all.pass();
  EXPECT_EQ(executors["slurm"]->running(), 2u);  // both features
  finish_all_running();
  all.pass();
  EXPECT_EQ(executors["slurm"]->running(), 2u);
  all.pass();
  EXPECT_EQ(executors["slurm"]->running(), 2u);
}

// Guards: what a search gives up is asked to stop, once, but not when another experiment wants its end.
TEST_F(Coordination, AStopDecisionsItsOwnTrainingsOnly) {
  const Plan one = add("one");
  const std::string train = key(one, "train parts");
  CoordinatorOptions options;
  options.search = [&](const Workspace&, const Plan& plan) {
    return plan.name == "one" ? std::vector<StopDecision>{{train, "7th of 9"}} : std::vector<StopDecision>{};
  };
  const Plan two = add("two", "evaluate: {gaussian_sigma: 2}\n");
  Coordinator all = coordinator(options);
  all.pass();
  EXPECT_FALSE(workspace.request(train));
  workspace.remove_active("two");
  const auto pass = all.pass();
  ASSERT_TRUE(workspace.request(train));
  EXPECT_EQ(workspace.request(train)->action, "stop");
  EXPECT_TRUE(std::any_of(pass.actions.begin(), pass.actions.end(),
                          [](const PassAction& action) { return action.text == "given up: 7th of 9"; }));
  EXPECT_EQ(state(all.statuses("one"), one, "train parts"), StageState::stopped);
}

// Guards a search's decisions: the steps that it decides by stay, when the training is done and its events are thinned.
TEST_F(Coordination, StepsThatASearchDecidesByStay) {
  std::string events;
  for (int step = 1; events.size() <= (5u << 20); ++step)
    events += Json({{"event", "step"}, {"phase", "main"}, {"step", step}, {"seq", step}}).dump() + "\n";
  for (const std::string unit : {"epoch", "step"}) {
    const Plan plan =
        add(unit, "seeds: [" + std::to_string(unit.size()) + "]\nsearch: {max_trials: 1, method: asha, " +
                      "asha: {unit: " + unit + "}, space: {train.main.learning_rate.mdci: {uniform: [0.1, 1]}}}\n");
    Coordinator all = coordinator();
    all.pass();
    finish_all_running();
    all.pass();
    const auto train = std::find_if(plan.stages.begin(), plan.stages.end(),
                                    [](const PlannedStage& stage) { return stage.kind == StageKind::train; });
    const auto file = workspace.events_file(train->key, 1);
    write_file_atomically(file, events);
    finish_all_running();
    all.pass();
    EXPECT_EQ(std::filesystem::file_size(file) == events.size(), unit == "step") << unit;
  }
}

// Guards: two coordinators at once start each stage once.
TEST_F(Coordination, TwoAtOnceStartNothingTwice) {
  const Plan plan = add("one");
  Coordinator first = coordinator();
  first.pass();
  FakeExecutor* const of_first = executors["slurm"];
  alive = "me";  // its claims hold
  Coordinator second = coordinator();
  EXPECT_TRUE(second.pass().actions.empty());
  EXPECT_EQ(of_first->running(), 2u);
  EXPECT_EQ(executors["slurm"]->running(), 0u);
  EXPECT_EQ(state(second.statuses("one"), plan, "features parts"), StageState::running);
}

TEST_F(Coordination, ANameThatIsNeitherHasANearestOne) {
  add("paper-table-3");
  EXPECT_TRUE(names_experiment(workspace, "paper-table-3"));
  EXPECT_FALSE(names_experiment(workspace, "0123ab"));
  EXPECT_THAT(error_of([&] { names_experiment(workspace, "paper-table3"); }), HasSubstr("did you mean paper-table-3?"));
}

// Guards: a large grid fits a screen, with what needs attention on top.
TEST_F(Coordination, StatusTellsWhatMattersFirst) {
  const Plan plan = add("one", "seeds: [1, 2, 3, 4, 5, 6, 7, 8, 9]\n");
  const std::string failing = plan.stages[1].key;
  for (int attempt = 1; attempt <= 3; ++attempt) {
    workspace.make_attempt(failing);
    write_file_atomically(workspace.log_file(failing, attempt), "first\nout of luck\n");
    workspace.write_outcome(failing, attempt, {"failed", "exited", "exit code 3"});
  }
  const std::string again = plan.stages[0].key;
  workspace.make_attempt(again);
  workspace.write_outcome(again, 1, {"failed", "exited", "exit code 4"});
  const auto statuses = observe(workspace, plan);
  const std::string text = status_text(workspace, plan, statuses, 4);
  EXPECT_THAT(text, HasSubstr("9 trials"));
  EXPECT_THAT(text, HasSubstr("on slurm, slurm.yaml since"));
  EXPECT_THAT(text, HasSubstr("(failed 3 of 3 times)  exit code 3\n      first\n      out of luck\n"));
  EXPECT_THAT(text, HasSubstr("(failed 1 of 3 times)  exit code 4"));
  EXPECT_LT(text.find("exit code 3"), text.find("exit code 4"));
  EXPECT_THAT(text, HasSubstr("and " + std::to_string(plan.stages.size() - 4) + " more (--all shows them)"));
  const Json json = status_json(workspace, plan, statuses);
  EXPECT_EQ(json["stages"].size(), plan.stages.size());
  EXPECT_EQ(json["counts"]["failed"], 1);
  EXPECT_EQ(json["stages"][1]["limits"], "failed 3 of 3 times");
  EXPECT_EQ(json["active"]["executor"], "slurm");
}

// Guards: `filo status` shows a run in the foreground while it lives.
TEST_F(Coordination, StatusTellsOfALivingRun) {
  const Plan plan = add("one", "", "");
  const auto text = [&] { return status_text(workspace, plan, observe(workspace, plan), 0); };
  const auto runs = [&] { return status_json(workspace, plan, observe(workspace, plan))["runs"]; };
  {
    const RunFile run(workspace, "one");
    EXPECT_THAT(text(), HasSubstr("  run by filo run, process " + std::to_string(getpid()) + " on "));
    ASSERT_EQ(runs().size(), 1u);
    EXPECT_EQ(runs()[0]["pid"], getpid());
  }
  EXPECT_THAT(text(), testing::Not(HasSubstr("run by filo run")));
  EXPECT_TRUE(runs().empty());
}

// Guards: what cannot be looked after holds nobody up, is told, and goes when it is cancelled.
TEST_F(Coordination, OneBadExperimentStopsNoOther) {
  const Plan good = add("good");
  add("bad", "train: {seed: 1}\n");
  add("gone", "train: {seed: 2}\n", "broken");
  write_file_atomically(workspace.plan_file("bad"), R"({"format": 1})");
  Coordinator all = coordinator();
  for (int i = 0; i < 4; ++i) {
    const auto pass = all.pass();
    EXPECT_EQ(pass.troubles.size(), 2u);
    finish_all_running();
  }
  EXPECT_TRUE(all_done(all.statuses(good)));
  EXPECT_FALSE(workspace.active("good"));

  EXPECT_THROW(cancel_experiment(workspace, "bad", "enough"), Error);  // which of its stages ran it cannot say
  EXPECT_TRUE(cancel_experiment(workspace, "gone", "enough"));
  all.pass();
  EXPECT_THAT(workspace.active_experiments(), testing::IsEmpty());
  EXPECT_TRUE(all.pass().troubles.empty());
}

// Guards a cluster's hours: a pass that had not seen the cancellation yet started another stage.
TEST_F(Coordination, WhatStartsWhileItsExperimentIsCancelledIsCancelledToo) {
  const Plan plan = add("one");
  Coordinator all = coordinator();
  ASSERT_EQ(all.pass().experiments, 1u);
  ActiveExperiment active = *workspace.active("one");
  active.cancelled = true;
  workspace.write_active(active);
  all.pass();
  all.pass();
  EXPECT_EQ(executors["slurm"]->killed.size(), 2u);
  EXPECT_TRUE(workspace.active("one"));
  for (const Job& job : executors["slurm"]->jobs()) executors["slurm"]->end(job.stage, 0, EndCause::cancelled);
  all.pass();
  EXPECT_FALSE(workspace.active("one"));
}

// Guards the second of two submissions: what was handed over anew after the pass had begun stays active.
TEST_F(Coordination, WhatIsHandedOverAgainMeanwhileStaysActive) {
  add("one");
  CoordinatorOptions options;
  bool hand_over = false;
  options.at_point = [&](std::string_view point) {
    if (hand_over && point == "claimed")
      workspace.write_active({.name = "one", .executor = "slurm", .cluster = "slurm.yaml"});
  };
  Coordinator all = coordinator(options);
  for (int i = 0; i < 3; ++i) {
    all.pass();
    finish_all_running();
  }
  hand_over = true;
  all.pass();
  EXPECT_TRUE(workspace.active("one"));
  hand_over = false;
  all.pass();
  EXPECT_FALSE(workspace.active("one"));
}

// Guards the workspace against a slow cluster: its commands are waited for outside of the workspace's lock.
TEST_F(Coordination, NobodyWaitsForAClustersCommands) {
  struct Slow : FakeExecutor {
    using FakeExecutor::FakeExecutor;
    std::filesystem::path workspace_lock, own;
    FileDescriptor lock() const override { return open_file(own, O_RDWR | O_CREAT); }
    void expect_free() const {
      const FileDescriptor file = open_file(workspace_lock, O_RDWR | O_CREAT);
      EXPECT_EQ(flock(file.get(), LOCK_EX | LOCK_NB), 0);
    }
    std::vector<Job> jobs() override {
      expect_free();
      return FakeExecutor::jobs();
    }
    std::vector<std::string> start(const std::vector<StartRequest>& requests,
                                   const std::vector<Json>& claims) override {
      expect_free();
      return FakeExecutor::start(requests, claims);
    }
  };
  const Plan plan = add("one");
  Slow slow("me", "slow");
  slow.workspace_lock = workspace.lock_file();
  slow.own = scratch.folder / "slow.lock";
  reconcile(workspace, plan, slow, {});
  EXPECT_EQ(slow.running(), 2u);
}

}  // namespace
}  // namespace filo
