// An experiment of two trials whose stages tell what the test says: for tests of scheduler/tracking.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "scheduler/tracking/runs.hpp"
#include "tests/unit/support/scratch.hpp"

namespace filo {

class TrackedExperiment : public ::testing::Test {
 protected:
  TrackedExperiment() : workspace((scratch.add_all(), scratch.workspace())) { make_plan(""); }

  // `more` is appended to the experiment's file.
  void make_plan(const std::string& more) {
    plan = std::make_shared<const Plan>(filo::make_plan(scratch.experiment(more), workspace));
    save_plan(*plan, workspace);
    states_.assign(plan->trials.size(), RunState());
  }

  // Of the first trial's training; what follows is told by this attempt.
  void start_attempt() {
    states_[0].attempt = workspace.make_attempt(plan->trials[0].train);
    states_[0].training = true;
    sequence_ = 0;
  }
  void event(Json fields) {
    fields["seq"] = sequence_++;
    fields["time"] = 1000 + sequence_;
    std::ofstream(workspace.events_file(plan->trials[0].train, states_[0].attempt), std::ios::app)
        << fields.dump() << "\n";
  }
  void step(int at, double loss) { event({{"event", "step"}, {"phase", "main"}, {"step", at}, {"loss", loss}}); }
  void finish(const Json& metrics) {
    workspace.make_attempt(plan->trials[0].evaluate);
    write_result(workspace, plan->trials[0].evaluate, StageKind::evaluate, 1, metrics);
    states_[0].training = false;
    states_[0].status = RunStatus::finished;
  }
  // One step of the second trial's.
  std::string other_training() {
    const std::string key = plan->trials[1].train;
    states_[1] = {.attempt = workspace.make_attempt(key), .training = true};
    std::ofstream(workspace.events_file(key, 1))
        << R"({"event":"step","phase":"main","step":1,"loss":1,"seq":0,"time":1})"
        << "\n";
    return key;
  }

  std::vector<RunState> states() const { return states_; }

  Scratch scratch;
  Workspace workspace;
  std::shared_ptr<const Plan> plan;
  std::vector<RunState> states_;

 private:
  int sequence_ = 0;
};

}  // namespace filo
