// From an experiment to stages: each unit of work once, however many trials need it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "scheduler/plan/stage_spec.hpp"
#include "settings/experiment/experiment.hpp"
#include "workspace/workspace.hpp"

namespace filo {

struct PlannedStage {
  std::string key;
  StageKind kind = StageKind::features;
  std::string label;                // for people: "train mvtec (filter=true)": what all trials that need it share
  std::vector<std::string> inputs;  // keys of the stages it needs
  ResourceSettings resources;
  StageSpec spec;  // empty in a plan that was loaded: read spec.json
};

// One fold at one point of the axes. Trials that differ only at evaluation name the same `train`.
struct PlannedTrial {
  std::string experiment;  // its own name, or that of the included experiment that the trial belongs to
  std::string fold;
  std::map<std::string, Json> axis_values;  // what varies, and "name" where the point has one
  std::string train;                        // key
  std::string evaluate;                     // key; its result is the trial's
  // Of trials that only a search's draw tells apart (same fold, same point of the grid, same seed); -1 without a
  // search.
  std::int64_t search_group = -1;
};

// Images that a fold both trains on and tests: what is tested is then not unseen.
struct SharedImages {
  std::string fold, train, test;  // names: of the fold and of the data sets
  int images = 0;                 // of `test` that `train` has too, by the SHA-256 of their files or pixels
};

struct Plan {
  std::string name;  // of the experiment
  Json experiment;   // resolved
  std::vector<Table> tables;
  std::map<std::string, SearchSettings> searches;  // by experiment (PlannedTrial::experiment); most have none
  std::vector<PlannedStage> stages;                // inputs before what needs them
  std::vector<PlannedTrial> trials;
  std::vector<SharedImages> shared_images;  // that were allowed: each fold's once

  const PlannedStage& stage(const std::string& key) const;  // throws Error on an unknown key
  int max_concurrent() const;  // trainings at once, the least that a search asks for; 0: no limit
};

// Reads the data sets' descriptions, the weights' digest and the descriptions files; writes nothing but the digest
// cache. Throws UsageError on a data set that is not added, two names for one data set within a fold, weights that are
// not there or do not fit image_size or layers, a class without descriptions, a file of boxes that is not there, a
// fold that trains on and tests more images in common than `allow_shared`.
// Trials of included experiments follow the experiment's own; stages that several need are planned once.
Plan make_plan(const Experiment& experiment, const Workspace& workspace, int allow_shared = 0);

}  // namespace filo
