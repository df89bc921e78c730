// What is told to TensorBoard and MLflow as one run: a trial, which is a training with the evaluation of what it made.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/plan/plan.hpp"

namespace filo {

// Trials with one evaluation are one run, under the first one's name. A training that several trials share is told in
// the run of each.
struct TrackedRun {
  std::string key;        // of the evaluation
  std::string train;      // key of the training
  std::string name;       // "mvtec->visa (filter=true, seed=1)", as tables call it; differs within a plan
  std::size_t trial = 0;  // position in Plan::trials
};
std::vector<TrackedRun> tracked_runs(const Plan& plan);

// What tells runs apart and how they were made: fold, model, train and evaluate with every key, as dotted keys, with
// what varies in place of what the file says. {"model.prompts.filter", "true"}
std::vector<std::pair<std::string, std::string>> run_params(const Plan& plan, const TrackedRun& run);

enum class RunStatus { running, finished, failed, killed };  // running: or not begun; killed: cancelled or stopped
std::string to_string(RunStatus status);

// How far a trial has come.
struct RunState {
  int attempt = 0;        // at the training, the newest; 0: none
  bool training = false;  // it runs just now
  RunStatus status = RunStatus::running;
  friend bool operator==(const RunState&, const RunState&) = default;
};

}  // namespace filo
