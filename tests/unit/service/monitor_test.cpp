#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.hpp"
#include "service/monitor.hpp"
#include "tests/unit/support/scratch.hpp"

namespace filo::service {
namespace {

using ::testing::HasSubstr;

// One experiment of two folds, whose states the test sets.
class Monitoring : public ::testing::Test {
 protected:
  void SetUp() override {
    scratch.add_all();
    const Plan made = make_plan(scratch.experiment(), workspace);
    save_plan(made, workspace);
    plan = std::make_shared<const Plan>(made);
    for (const auto& stage : plan->stages) {
      statuses.push_back({});
      statuses.back().key = stage.key;
    }
    train = plan->trials[0].train;
    evaluate = plan->trials[0].evaluate;
  }

  StageStatus& status(const std::string& key) {
    for (auto& one : statuses)
      if (one.key == key) return one;
    throw Error("test", "no stage " + key);
  }
  void set(const std::string& key, StageState state, int attempt = 1) {
    status(key).state = state;
    status(key).attempt = attempt;
  }
  void publish() {
    monitor.publish({[&](const std::string&) { return plan; },
                     [&](const std::string&) {
                       return Monitor::Statuses{statuses, true};
                     }},
                    "");
  }
  const ExperimentView& shown() { return *monitor.view()->experiments.at("test"); }

  Scratch scratch;
  Workspace workspace = scratch.workspace();
  std::shared_ptr<const Plan> plan;
  std::vector<StageStatus> statuses;
  std::string train, evaluate;
  EventHub hub;
  Monitor monitor{workspace, hub};
};

TEST_F(Monitoring, ATrialIsAsFarAsWhatItNeeds) {
  using enum StageState;
  const std::string features = [&] {
    for (const auto& stage : plan->stages)
      if (stage.key == train) return stage.inputs.at(0);
    return std::string();
  }();
  struct Case {
    StageState features, train, evaluate, trial;
  };
  for (const Case& one :
       {Case{waiting, waiting, waiting, waiting}, Case{queued, waiting, waiting, queued},
        Case{running, waiting, waiting, running}, Case{running, queued, waiting, running},
        Case{done, queued, waiting, queued}, Case{done, running, waiting, running}, Case{done, done, waiting, waiting},
        Case{done, done, running, running}, Case{done, done, done, done}, Case{done, done, failed, failed},
        Case{done, failed, blocked, failed}, Case{done, cancelled, blocked, cancelled},
        Case{failed, blocked, blocked, blocked}}) {
    set(features, one.features);
    set(train, one.train);
    set(evaluate, one.evaluate);
    publish();
    EXPECT_EQ(to_string(trial_state(shown(), 0)), to_string(one.trial))
        << to_string(one.features) << " " << to_string(one.train) << " " << to_string(one.evaluate);
  }
}

TEST_F(Monitoring, ChangesAreAnnouncedOnce) {
  publish();
  const auto before = hub.newest_announcement();
  set(train, StageState::running);
  publish();
  publish();
  const auto announced = hub.announced_after(before);
  ASSERT_EQ(announced.messages.size(), 1u);
  const Json message = Json::parse(announced.messages[0].second);
  EXPECT_EQ(message["event"], "stages");
  ASSERT_EQ(message["changed"].size(), 1u);
  EXPECT_EQ(message["changed"][0]["stage"], train);
  EXPECT_EQ(message["changed"][0]["state"], "running");
}

// Guards against an experiment that vanishes from the page because its plan cannot be read for once.
TEST_F(Monitoring, AnExperimentThatCannotBeReadStaysAsItWasShown) {
  set(train, StageState::done);
  publish();
  monitor.publish({[](const std::string&) -> std::shared_ptr<const Plan> { throw Error("plan.json", "is torn"); },
                   [](const std::string&) { return std::nullopt; }},
                  "");
  EXPECT_EQ(shown().stage_counts.at("done"), 1);
  EXPECT_THAT(monitor.view()->problem, HasSubstr("test: "));
  EXPECT_THAT(monitor.view()->problem, HasSubstr("is torn"));
  publish();
  EXPECT_EQ(monitor.view()->problem, "");
}

TEST_F(Monitoring, EventsOfStagesThatRunAreReadFromTheirFilesUnlessTheyPost) {
  const auto append = [&](int sequence) {
    std::ofstream(workspace.events_file(train, 1), std::ios::app)
        << Json{{"seq", sequence}, {"event", "progress"}, {"done", sequence}, {"total", 8}, {"unit", "images"}} << "\n";
  };
  std::filesystem::create_directories(workspace.attempt_folder(train, 1));
  append(1);
  EventTailer tailer(workspace, hub, monitor);
  publish();
  tailer.look();
  EXPECT_FALSE(hub.latest(train)) << "it does not run";
  set(train, StageState::running);
  publish();
  tailer.look();
  EXPECT_EQ(hub.latest(train)->text, "1/8 images");
  EXPECT_EQ(hub.counters().from_files, 1u);

  set(evaluate, StageState::running);
  std::filesystem::create_directories(workspace.attempt_folder(evaluate, 1));
  const auto line = R"({"seq":0,"event":"progress","done":3,"total":4,"unit":"images"})";
  std::ofstream(workspace.events_file(evaluate, 1)) << line << "\n";
  hub.accept(evaluate, {*parse_event_line(line, 1)}, EventHub::Source::post);
  publish();
  tailer.look();
  EXPECT_EQ(hub.latest(evaluate)->text, "3/4 images");
  EXPECT_EQ(hub.counters().duplicates, 0u) << "its file was read although it posts";
}

}  // namespace
}  // namespace filo::service
