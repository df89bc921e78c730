// What an experiment file says (docs/reference/experiment-file.md), as values: data sets, folds, settings, what varies,
// search, tables. Read by load_experiment() and expanded by expand() (settings/experiment/experiment.hpp).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "settings/evaluate.hpp"
#include "settings/model.hpp"
#include "settings/resources.hpp"
#include "settings/source.hpp"
#include "settings/train.hpp"

namespace filo {

struct Fold {
  std::string name;                // "mvtec->visa" unless given
  std::vector<std::string> train;  // data set names (not roles), at least one; never `test`
  std::string test;
};

struct ExperimentSettings {
  ModelSettings model;
  TrainSettings train;
  EvaluateSettings evaluate;
  ResourceSettings resources;
};

// What one point of the grid sets: dotted key ("model.prompts.filter") -> value.
using PointValues = std::vector<std::pair<std::string, SourceValue>>;

// Keys that vary together, one assignment per step; an axis is a group of one key.
struct AxisGroup {
  std::vector<std::string> keys;
  std::vector<PointValues> values;
};

// A point beside the product of the groups.
struct ExtraPoint {
  std::string name;  // what tables and `exclude` call it; "" unless given
  PointValues values;
  SourceValue written;
};

// What varies, and how.
struct Grid {
  std::vector<AxisGroup> groups;   // axes in the file's order, then zip: their product is the grid
  std::vector<ExtraPoint> points;  // beside it; with points and no group, the points are the grid
  std::vector<AxisGroup> repeats;  // search, seeds: every point of the grid is run with each of these

  std::vector<std::string> varied_keys() const;  // dotted, each once, in the file's order
};

// Conditions that all have to hold: "fold", "name" or a dotted key -> value.
struct Condition {
  std::map<std::string, Json> values;
  SourceValue written{};
  bool may_match_nothing = false;  // it came from a base, which serves several experiments
  bool matches(const std::string& fold, const std::map<std::string, Json>& axis_values) const;  // a key not there: no
};

struct TableRowSettings {
  std::string name;
  std::optional<Condition> where;  // unset: a row of the paper that no trial of ours belongs to
  std::string note;                // shown below the table
};

struct Table {
  std::string experiment;  // whose trials it shows (an included one keeps its own tables)
  std::string title;
  std::string rows;  // "fold", "name" or a dotted key that varies; "": every combination of them is a row
  std::vector<TableRowSettings> named_rows;  // when there are any, they are the rows
  std::string columns;                       // as rows
  std::vector<std::string> metrics;
  // Row -> column -> the paper's values in per cent, one per metric, null where it has none. Columns "": column "".
  std::map<std::string, std::map<std::string, std::vector<Json>>> paper;
  std::string note;
  std::string experiment_note;  // the experiment's own, shown below each of its tables
};

enum class SearchMethod { random, asha };

struct SearchDimension {
  std::string key;
  enum class Kind { uniform, log_uniform, integer, choice } kind = Kind::uniform;
  double low = 0, high = 0;  // not for choice; both ends belong to it
  std::vector<SourceValue> choices;
};

// Hyperparameters drawn at random, by seed alone; with asha, trainings that fall behind are stopped early.
struct SearchSettings {
  SearchMethod method = SearchMethod::random;
  std::vector<SearchDimension> space;
  std::string metric = "loss";  // a field of training's events
  bool maximize = false;
  int max_trials = 0;      // points drawn; each is a trial per fold, point of the grid and seed
  int max_concurrent = 0;  // trainings at once; 0: no limit
  std::uint64_t seed = 0;
  // asha only: at `min` units and then at every `reduction`-th power of it, the best 1/reduction go on.
  int reduction = 3;
  int min = 1;
  int max = 0;                 // no decisions from here on; 0: train.main.epochs, or no limit where unit is step
  std::string unit = "epoch";  // of the main phase; or "step"
};

struct Experiment {
  std::string name;
  std::string path;                         // of the file
  std::map<std::string, std::string> data;  // role -> data set name
  std::vector<Fold> folds;                  // none: it only includes others
  ExperimentSettings base;
  Grid grid;
  std::vector<Condition> exclude;
  std::optional<SearchSettings> search;
  std::vector<Table> tables;
  std::vector<std::string> export_formats;  // of every training; none: no export stages
  std::vector<Experiment> included;         // each once
  std::vector<std::string> files;           // by SourceValue::file: the file itself, then its bases
  SourceValue source;                       // with its bases; what varies is applied to it
  Json resolved;                            // every key, in the shape of the file; included files by path

  bool has_own_trials() const { return !folds.empty(); }
  std::string place(const std::string& dotted_key) const;  // "settings: FILE:LINE: KEY", for messages
};

// One point of the grid.
struct Variant {
  std::map<std::string, Json> axis_values;  // every varied key, and "name" where the point has one
  ExperimentSettings settings;
  std::vector<std::size_t> folds;  // indices of those that `exclude` leaves
  // Of model, train, evaluate, resources: equal numbers, equal settings (but not the other way round).
  std::array<std::size_t, 4> sections{};
  // What the search's draws compete within: equal for variants that only the search tells apart.
  std::size_t grid_point = 0;
};

}  // namespace filo
