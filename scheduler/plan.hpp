// From an experiment to stages: each unit of work once, however many trials need it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "scheduler/workspace.hpp"
#include "settings/experiment.hpp"

namespace filo {

struct PlannedStage {
  std::string key;
  StageKind kind = StageKind::features;
  std::string label;                // for people: "train mvtec"
  std::vector<std::string> inputs;  // keys of the stages it needs
  ResourceSettings resources;
  Json spec;  // spec.json
};

// One fold at one point of the axes. Trials that differ only at evaluation name the same `train`.
struct PlannedTrial {
  std::string fold;
  std::map<std::string, Json> axis_values;
  std::string train;     // key
  std::string evaluate;  // key; its result is the trial's
};

struct Plan {
  std::string name;  // of the experiment
  Json experiment;   // resolved
  std::vector<Table> tables;
  std::vector<std::string> folds;    // in the file's order
  std::vector<PlannedStage> stages;  // inputs before what needs them
  std::vector<PlannedTrial> trials;

  const PlannedStage& stage(const std::string& key) const;  // throws Error on an unknown key
};

// Reads the data sets' descriptions, the weights' digest and the descriptions files; writes nothing but the digest
// cache. Throws UsageError on a data set that is not added, two names for one data set within a fold, weights that are
// not there or do not fit image_size or layers, a class without descriptions.
Plan make_plan(const Experiment& experiment, const Workspace& workspace);

// experiments/NAME/plan.json and stages/KEY/spec.json of each stage.
void save_plan(const Plan& plan, const Workspace& workspace);
// Throws UsageError when the experiment was never run here. The stages' specs are read from their folders when asked
// for, not here.
Plan load_plan(const Workspace& workspace, const std::string& name);
std::vector<std::string> experiment_names(const Workspace& workspace);

}  // namespace filo
