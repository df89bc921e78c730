// What `filo run` shows while stages run.
#include "scheduler/control/run_progress.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "scheduler/control/stage_meter.hpp"
#include "tests/unit/support/tracked_experiment.hpp"

namespace filo {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

Json step(int epoch, int epoch_step, double time) {
  return {{"event", "step"},          {"phase", "main"}, {"epoch", epoch}, {"epochs", 4},
          {"epoch_step", epoch_step}, {"steps", 10},     {"time", time},   {"images_per_s", 19.94}};
}

// 1 of 40 steps at 100 s, 21 of 40 at 120 s: a step a second, 19 left.
TEST(StageMeter, TellsHowFarHowFastAndHowLongYet) {
  StageMeter meter;
  EXPECT_FALSE(meter.has_begun());
  meter.add(step(1, 1, 100));
  EXPECT_FALSE(meter.seconds_left()) << "one step tells no speed";
  meter.add(step(3, 1, 120));
  EXPECT_NEAR(*meter.seconds_left(), 19, 1e-9);
  EXPECT_EQ(meter.line(), "[==========>         ]  52 %  00:00:19 left, 19.9 images/s, main epoch 3/4");
}

TEST(StageMeter, CountsImages) {
  StageMeter meter;
  meter.add({{"event", "progress"}, {"done", 8}, {"total", 48}, {"unit", "images"}, {"time", 10}});
  meter.add({{"event", "progress"}, {"done", 24}, {"total", 48}, {"unit", "images"}, {"time", 14}});
  EXPECT_EQ(meter.line(), "[==========>         ]  50 %  00:00:06 left, 4.0 images/s, 24/48 images");
}

// Guards the estimate: neither another phase nor a start before this one says how fast this one is.
TEST(StageMeter, MeasuresThePhaseAndTheStartThatItIsIn) {
  StageMeter meter;
  meter.add(step(1, 1, 100));
  meter.add(step(4, 10, 200));
  Json adapter = step(1, 1, 201);
  adapter["phase"] = "adapter";
  meter.add(adapter);
  EXPECT_FALSE(meter.seconds_left());
  meter.add({{"event", "started"}, {"time", 500}});
  EXPECT_FALSE(meter.has_begun());
}

class Showing : public TrackedExperiment {
 protected:
  std::vector<StageStatus> statuses(StageState state) const {
    std::vector<StageStatus> all;
    for (const auto& stage : plan->stages)
      all.push_back(
          {.key = stage.key, .state = stage.key == plan->trials[0].train ? state : StageState::waiting, .attempt = 1});
    return all;
  }
  std::string shown(bool terminal) {
    std::ostringstream out;
    {
      RunProgress progress(workspace, *plan, out, terminal);
      progress.update(statuses(StageState::running));
      event(filo::step(1, 1, 100));
      progress.update(statuses(StageState::running));
      event(filo::step(1, 2, 101));
      progress.update(statuses(StageState::running));
    }
    return out.str();
  }
};

// Guards logs: what is no terminal gets lines and nothing that moves a cursor.
TEST_F(Showing, ABarOnATerminalAndLinesElsewhere) {
  start_attempt();
  const std::string bar = shown(true);
  EXPECT_THAT(bar, HasSubstr("train parts  [>"));
  EXPECT_THAT(bar, HasSubstr("19.9 images/s, main epoch 1/4"));
  EXPECT_THAT(bar, EndsWith("\r\033[J")) << "nothing of it is left";
  start_attempt();
  const std::string lines = shown(false);
  EXPECT_THAT(lines, Not(HasSubstr("\033")));
  EXPECT_THAT(lines, HasSubstr("train parts main epoch 1 step 1/10"));
}

}  // namespace
}  // namespace filo
