// From events to what TensorBoard is told, however often a training or the one who tells is interrupted.
#include "scheduler/tracking/tracking.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstring>

#include "scheduler/control/coordinator.hpp"
#include "scheduler/tracking/event_file.hpp"
#include "scheduler/tracking/tensorboard.hpp"
#include "scheduler/tracking/tracker.hpp"
#include "tests/unit/support/fake_executor.hpp"
#include "tests/unit/support/tracked_experiment.hpp"

namespace filo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const auto never = [] { return false; };

// RFC 3720, B.4.
TEST(Crc32c, IsCastagnolis) {
  std::string up, down;
  for (int i = 0; i < 32; ++i) {
    up += static_cast<char>(i);
    down += static_cast<char>(31 - i);
  }
  const unsigned char read_command[48] = {0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0, 0, 0, 0,
                                          0x14, 0,    0, 0, 0, 0, 4, 0, 0, 0, 0, 0x14, 0, 0, 0, 0x18,
                                          0x28, 0,    0, 0, 0, 0, 0, 0, 2, 0, 0, 0,    0, 0, 0, 0};
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43U);
  EXPECT_EQ(crc32c(up), 0x46dd794eU);
  EXPECT_EQ(crc32c(down), 0x113fdb5cU);
  EXPECT_EQ(crc32c({reinterpret_cast<const char*>(read_command), 48}), 0xd9963a56U);
}

// The bytes that tensorboard 2.21 writes for the same Event.
TEST(EventFile, RecordsAreTensorBoards) {
  const auto hex = [](const std::string& bytes) {
    std::string text;
    for (const char c : bytes) {
      text += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
      text += "0123456789abcdef"[c & 15];
    }
    return text;
  };
  EXPECT_EQ(hex(event_record::version(1)),
            "1800000000000000a37f4b2209000000000000f03f1a0d627261696e2e4576656e743a3286bf577a");
  EXPECT_EQ(hex(event_record::scalar("main/loss", 0.5, 300, 2)),
            "200000000000000029eda95009000000000000004010ac022a120a100a096d61696e2f6c6f7373150000003f0e0408eb");
  EXPECT_EQ(hex(event_record::restart(7, 3)), "0f000000000000006d532b0909000000000000084010073a02080167edf0c3");
}

// What a run was told, as text: "main/loss 3 0.8", "again from 3".
struct Told {
  std::map<std::string, std::vector<std::string>> lines;  // by run
  std::map<std::string, std::string> status;
  int runs = 0;
};

class FakeSink : public RunSink {
 public:
  FakeSink(Told& told, const bool& away, const int& dies_after) : told_(told), away_(away), dies_after_(dies_after) {}
  std::string name() const override { return "fake"; }
  std::string place() const override { return "the fake"; }
  void tell(const TrackedRun& run, Json& memory, Json& shared, const RunBatch& batch) override {
    EXPECT_EQ(shared.at("token").get<std::string>().size(), 16u);
    if (away_) throw SinkAway("fake", "does not answer");
    if (memory.is_null()) memory = ++told_.runs;
    auto& lines = told_.lines[run.name];
    if (batch.restart) lines.push_back("again from " + std::to_string(*batch.restart));
    for (const auto& point : batch.points)
      lines.push_back(point.name + " " + std::to_string(point.step) + " " + Json(point.value).dump());
    if (dies_after_ > 0 && lines.size() >= static_cast<std::size_t>(dies_after_))
      throw Error("fake", "refuses this run");
  }
  void set_status(const TrackedRun& run, const Json&, RunStatus status, double) override {
    told_.status[run.name] = to_string(status);
  }
  bool is_lost(const Json&) const override { return false; }

 private:
  Told& told_;
  const bool& away_;
  const int& dies_after_;
};

class TrackedRuns : public TrackedExperiment {
 protected:
  Tracker tracker(std::size_t batch_points = 1000) {
    return {workspace,
            plan,
            std::make_unique<FakeSink>(told, away, dies_after),
            {.first_pause_s = 0.05, .longest_pause_s = 0.2, .batch_points = batch_points}};
  }
  const std::vector<std::string>& lines() { return told.lines["a->b"]; }

  Told told;
  bool away = false;
  int dies_after = 0;
};

// Guards names, steps and order: of steps, of epochs at their last step, and of the evaluation at the training's last.
TEST_F(TrackedRuns, NumbersOfTrainingAndEvaluationAreOneRun) {
  start_attempt();
  step(1, 0.9);
  step(2, 0.8);
  event({{"event", "epoch"}, {"phase", "main"}, {"epoch", 1}, {"loss", 0.85}});
  event({{"event", "step"}, {"phase", "main"}, {"step", 3}, {"loss", nullptr}, {"losses", {{"dice", 0.25}}}});
  Tracker one = tracker();
  EXPECT_EQ(one.look(states(), never).points, 4u);
  EXPECT_THAT(lines(),
              ElementsAre("main/loss 1 0.9", "main/loss 2 0.8", "main/epoch/loss 2 0.85", "main/losses/dice 3 0.25"));
  EXPECT_EQ(told.status["a->b"], "running");
  finish({{"image_auroc", 0.75}, {"classes", {{"board", {{"images", 2}, {"aupro", 0.5}}}}}});
  EXPECT_TRUE(one.look(states(), never).caught_up);
  EXPECT_THAT(std::vector(lines().begin() + 4, lines().end()),
              ElementsAre("test/board/aupro 3 0.5", "test/image_auroc 3 0.75"));
  EXPECT_EQ(told.status["a->b"], "finished");
}

// Guards the rule for steps that are told again: from where the training went on, the later numbers count.
TEST_F(TrackedRuns, ARequeuedTrainingTellsFromWhereItWentOn) {
  start_attempt();
  for (int at = 1; at <= 4; ++at) step(at, 1.0 / at);
  Tracker one = tracker();
  one.look(states(), never);
  start_attempt();
  event({{"event", "resumed"}, {"step", 2}});
  step(3, 0.31);
  step(4, 0.21);
  start_attempt();  // no snapshot was left: from the beginning
  step(1, 0.99);
  told.lines.clear();
  one.look(states(), never);
  EXPECT_THAT(lines(),
              ElementsAre("again from 3", "main/loss 3 0.31", "main/loss 4 0.21", "again from 1", "main/loss 1 0.99"));
}

// Guards the numbers of an evaluation on a file system that shows its result late.
TEST_F(TrackedRuns, AResultThatIsSeenLateIsToldThen) {
  start_attempt();
  step(1, 0.5);
  states_[0].status = RunStatus::finished;
  Tracker one = tracker();
  EXPECT_FALSE(one.look(states(), never).caught_up);
  EXPECT_EQ(told.status.count("a->b"), 0u);
  finish({{"aupro", 0.5}});
  EXPECT_TRUE(one.look(states(), never).caught_up);
  EXPECT_EQ(lines().back(), "test/aupro 1 0.5");
  EXPECT_EQ(told.status["a->b"], "finished");
}

TEST_F(TrackedRuns, ARestartTellsNothingTwice) {
  start_attempt();
  for (int at = 1; at <= 5; ++at) step(at, 0.5);
  tracker(2).look(states(), never);
  step(6, 0.25);
  tracker().look(states(), never);
  tracker().look(states(), never);
  EXPECT_EQ(lines().size(), 6u);
  EXPECT_EQ(lines().back(), "main/loss 6 0.25");
  EXPECT_EQ(told.runs, 1);
}

// Guards the run of experiments: a sink that is away is left alone, told of once, and caught up with.
TEST_F(TrackedRuns, ASinkThatIsAwayIsCaughtUpWith) {
  start_attempt();
  step(1, 0.5);
  away = true;
  Tracker one = tracker();
  testing::internal::CaptureStdout();  // where the log goes before start_logging()
  EXPECT_THAT(one.look(states(), never).trouble, HasSubstr("does not answer"));
  away = false;
  const auto paused = one.look(states(), never);
  EXPECT_FALSE(paused.caught_up);
  EXPECT_GT(paused.again_s, 0);
  EXPECT_THAT(lines(), IsEmpty()) << "not before its pause is over";
  away = true;
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  one.look(states(), never);
  EXPECT_THAT(tracker().look(states(), never).trouble, HasSubstr("held for")) << "one process tells";
  away = false;
  EXPECT_TRUE(one.look(states(), never, true).caught_up) << "at once, when asked by hand";
  EXPECT_THAT(lines(), ElementsAre("main/loss 1 0.5"));
  const std::string log = testing::internal::GetCapturedStdout();
  EXPECT_EQ(log.find("does not answer"), log.rfind("does not answer")) << log;
  EXPECT_THAT(log, HasSubstr("can be told again"));
}

// Guards the others: one run that is refused keeps none of them back.
TEST_F(TrackedRuns, ARefusedRunIsToldOfAndTheOthersGoOn) {
  start_attempt();
  step(1, 0.5);
  dies_after = 1;
  const auto other = other_training();
  const auto look = tracker().look(states(), never);
  EXPECT_THAT(look.trouble, HasSubstr("refuses this run"));
  EXPECT_EQ(told.lines.size(), 2u) << other;
}

TEST_F(TrackedRuns, ParametersAreTheSettingsWithWhatVaries) {
  const auto runs = tracked_runs(*plan);
  ASSERT_EQ(runs.size(), 2u);
  const auto params = run_params(*plan, runs[1]);
  const std::map<std::string, std::string> by_name(params.begin(), params.end());
  EXPECT_EQ(runs[1].name, "b->a");
  EXPECT_EQ(by_name.at("fold"), "b->a");
  EXPECT_EQ(by_name.at("model.image_size"), "112");
  EXPECT_EQ(by_name.at("train.main.learning_rate.prompts"), "0.001");
  EXPECT_FALSE(by_name.contains("train.checkpoint")) << "what is empty says nothing";
}

// TensorBoard.

class EventFiles : public TrackedExperiment {
 protected:
  Tracker tracker() {
    return {workspace, plan, std::make_unique<TensorBoardSink>(workspace.tensorboard_folder("test")), {}};
  }
  std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> found;
    if (!std::filesystem::exists(workspace.tensorboard_folder("test"))) return found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(workspace.tensorboard_folder("test")))
      if (entry.is_regular_file()) found.push_back(entry.path());
    return found;
  }
};

// Guards against doubled points: what a process wrote and did not live to note is written over.
TEST_F(EventFiles, AKillBetweenWritingAndNotingLeavesEachPointOnce) {
  start_attempt();
  step(1, 0.5);
  tracker().look(states(), never);
  ASSERT_EQ(files().size(), 1u);
  const std::filesystem::path cursor = workspace.tracking_file("test", "tensorboard");
  const std::string before = read_file(cursor);
  step(2, 0.25);
  step(3, 0.125);
  tracker().look(states(), never);
  const std::string whole = read_file(files()[0]);
  write_file_atomically(cursor, before);  // as a kill leaves it
  tracker().look(states(), never);
  EXPECT_EQ(read_file(files()[0]), whole);
  EXPECT_EQ(files()[0].parent_path().filename(), "a->b");
}

TEST_F(EventFiles, WhatWasRemovedIsWrittenAnew) {
  start_attempt();
  step(1, 0.5);
  tracker().look(states(), never);
  const std::string whole = read_file(files()[0]);
  std::filesystem::remove_all(workspace.tensorboard_folder("test"));
  tracker().look(states(), never);
  ASSERT_EQ(files().size(), 1u);
  EXPECT_EQ(read_file(files()[0]), whole);
}

// Guards the live way: passes hand over how trials stand, and are not kept waiting.
TEST_F(EventFiles, PassesOfACoordinatorTellThem) {
  setenv("FILO_INDEX", "none", 1);
  make_plan("tracking: {tensorboard: true}\n");
  FakeExecutor executor;
  {
    Coordinator coordinator(workspace, nullptr, {});
    coordinator.look_after(*plan, executor);
    start_attempt();
    step(1, 0.5);
    coordinator.pass();
    EXPECT_TRUE(std::filesystem::exists(workspace.plan_file("test")));
  }  // waits for what is left
  unsetenv("FILO_INDEX");
  EXPECT_EQ(files().size(), 1u);
}

}  // namespace
}  // namespace filo
