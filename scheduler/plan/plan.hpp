// From an experiment to stages: each unit of work once, however many trials need it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "settings/experiment/experiment.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// A stage's spec.json in parts, which the stages of a grid share: 100,000 evaluations have one copy of the
// descriptions. Copies are cheap; immutable once made.
class StageSpec {
 public:
  struct Part {
    std::string name;  // of the member of spec.json
    Json value;
    std::string key_text;  // canonical JSON of what of it counts for the stage's key
  };
  static std::shared_ptr<const Part> part(const std::string& name, Json value);

  StageSpec() = default;
  explicit StageSpec(std::vector<std::shared_ptr<const Part>> parts);
  bool empty() const { return parts_.empty(); }
  Json json() const;                              // spec.json
  std::string key() const;                        // stage_key(json())
  const Json& at(const std::string& name) const;  // a member; throws Error when it is not there

 private:
  std::vector<std::shared_ptr<const Part>> parts_;  // by name
};

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

struct Plan {
  std::string name;  // of the experiment
  Json experiment;   // resolved
  std::vector<Table> tables;
  std::map<std::string, SearchSettings> searches;  // by experiment (PlannedTrial::experiment); most have none
  std::vector<PlannedStage> stages;                // inputs before what needs them
  std::vector<PlannedTrial> trials;

  const PlannedStage& stage(const std::string& key) const;  // throws Error on an unknown key
  int max_concurrent() const;  // trainings at once, the least that a search asks for; 0: no limit
};

// Reads the data sets' descriptions, the weights' digest and the descriptions files; writes nothing but the digest
// cache. Throws UsageError on a data set that is not added, two names for one data set within a fold, weights that are
// not there or do not fit image_size or layers, a class without descriptions, a file of boxes that is not there.
// Trials of included experiments follow the experiment's own; stages that several need are planned once.
Plan make_plan(const Experiment& experiment, const Workspace& workspace);

// For people: what varies, as "filter=true, seed=1"; a named point by its name, "+ filter, seed=1"; "" without axes.
std::string describe_axis_values(const std::map<std::string, Json>& axis_values);
std::string plain_text(const Json& axis_value);
std::string short_key(const std::string& dotted_key);  // "model.prompts.filter" -> "filter"

// experiments/NAME/plan.json and stages/KEY/spec.json of each stage.
void save_plan(const Plan& plan, const Workspace& workspace);
// Throws UsageError when the experiment was never run here. The stages' specs are read from their folders when asked
// for, not here.
Plan load_plan(const Workspace& workspace, const std::string& name);
std::vector<std::string> experiment_names(const Workspace& workspace);

}  // namespace filo
