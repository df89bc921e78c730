// The rule for steps that are told twice (workspace/events.hpp).
#include "workspace/metric_history.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/support/scratch.hpp"

namespace filo {
namespace {

constexpr const char* key = "0123456789abcdef";

// A training that was lost after step 4, and went on from the snapshot of step 2 on other ranks.
class ResumedTraining : public ::testing::Test {
 protected:
  ResumedTraining() : workspace(scratch.workspace()) {
    workspace.create_stage(key, Json::object());
    attempt({{1, 1.0}, {2, 0.9}, {3, 0.8}, {4, 0.7}}, 100);
    attempt({{3, 0.81}, {4, 0.71}, {5, 0.6}}, 200);
  }

  void attempt(const std::vector<std::pair<int, double>>& losses, double time) {
    const int number = workspace.make_attempt(key);
    std::string text;
    for (const auto& [step, loss] : losses)
      text += Json{{"event", "step"},
                   {"phase", "main"},
                   {"step", step},
                   {"loss", loss},
                   {"losses", {{"dice", loss / 2}}},
                   {"time", time + step},
                   {"seq", step}}
                  .dump() +
              "\n";
    write_file_atomically(workspace.events_file(key, number), text);
  }

  Scratch scratch;
  Workspace workspace;
};

// Guards the curves: of steps that were done again the numbers are those of the parameters that went on.
TEST_F(ResumedTraining, NumbersAreTheLastTold) {
  const MetricHistory history = metric_history(workspace, key);
  ASSERT_EQ(history.series().size(), 2u);
  EXPECT_EQ(history.series()[0].name, "loss");
  EXPECT_EQ(history.series()[1].name, "losses.dice");
  std::vector<double> losses;
  for (const auto& [step, point] : history.series()[0].points) losses.push_back(point.value.value());
  EXPECT_THAT(losses, testing::ElementsAre(1.0, 0.9, 0.81, 0.71, 0.6));
}

// Guards a search: what it decided by stands, in its order, however often a training is resumed.
TEST_F(ResumedTraining, DecisionsAreMadeByTheFirstTold) {
  const MetricPoints points = metric_points(workspace, key, "step", "main", "loss");
  ASSERT_EQ(points.size(), 5u);
  EXPECT_EQ(points.at(3).first_value, 0.8);
  EXPECT_EQ(points.at(3).value, 0.81);
  EXPECT_EQ(points.at(3).time, 103);
  EXPECT_EQ(points.at(5).first_value, 0.6);
  EXPECT_EQ(points.at(5).time, 205);
}

// Guards: a loss that is not a number is known as such, and a point of another phase or unit is another one.
TEST_F(ResumedTraining, WhatIsNoNumberHasNoValue) {
  const int number = workspace.make_attempt(key);
  write_file_atomically(workspace.events_file(key, number),
                        "{\"event\":\"step\",\"phase\":\"main\",\"step\":6,\"loss\":null}\n"
                        "{\"event\":\"step\",\"phase\":\"adapter\",\"step\":1,\"loss\":9}\n"
                        "{\"event\":\"epoch\",\"phase\":\"main\",\"epoch\":1,\"loss\":8}\n"
                        "{\"event\":\"step\",\"phase\":\"main\",\"step\":\"x\",\"loss\":7}\n");
  const MetricPoints points = metric_points(workspace, key, "step", "main", "loss");
  ASSERT_EQ(points.size(), 6u);
  EXPECT_FALSE(points.at(6).value);
  EXPECT_EQ(points.at(1).value, 1.0);
  EXPECT_EQ(metric_points(workspace, key, "epoch", "main", "loss").at(1).value, 8);
}

}  // namespace
}  // namespace filo
