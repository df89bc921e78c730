// An experiment file (DESIGN section 7): data sets, folds, settings, axes, tables.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "settings/schema.hpp"
#include "settings/settings.hpp"

namespace filo {

struct Fold {
  std::string name;   // "mvtec->visa" unless given
  std::string train;  // data set names (not roles); never the same
  std::string test;
};

struct ExperimentSettings {
  ModelSettings model;
  TrainSettings train;
  EvaluateSettings evaluate;
  ResourceSettings resources;
};

struct Axis {
  std::string key;  // dotted: "model.prompts.filter"
  std::vector<SourceValue> values;
};

struct Table {
  std::string title;
  std::string rows;     // "fold" or an axis's key; "": every combination of the axes is a row
  std::string columns;  // likewise
  std::vector<std::string> metrics;
};

struct Experiment {
  std::string name;
  std::string path;                         // of the file
  std::map<std::string, std::string> data;  // role -> data set name
  std::vector<Fold> folds;
  ExperimentSettings base;
  std::vector<Axis> axes;  // in the file's order; `seeds` is the last one
  std::vector<Table> tables;
  SourceValue source;  // as written; axes are applied to it
};

// One point of the axes' product.
struct Variant {
  std::map<std::string, Json> axis_values;  // dotted key -> value
  ExperimentSettings settings;
};

// Throws UsageError "settings: FILE:LINE: KEY: found ..., expected ..." that also tells where the other problems are.
Experiment load_experiment(const std::string& yaml_path);

// The product of the axes, last axis fastest; one variant with the base settings when there are none. Each is checked
// as if it had been written in the file: the message names the axis value's line. Throws UsageError above a million
// trials.
std::vector<Variant> expand(const Experiment& experiment);

Json to_json(const ExperimentSettings& settings);  // {"model", "train", "evaluate", "resources"}
Json to_json(const Experiment& experiment);        // resolved, in the shape of the file
std::string to_yaml(const Experiment& experiment);

// What may stand in paths and job names: letters, digits, '.', '_', '-'; not first '.' or '-'; at most 100.
bool is_plain_name(const std::string& name);

}  // namespace filo
