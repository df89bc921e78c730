// An experiment file (docs/reference/experiment-file.md) from YAML to trials: what other rooms include of this one. The
// values are in types.hpp; the other headers here are between the readers of the file's parts.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "settings/experiment/types.hpp"

namespace filo {

struct LoadOptions {
  std::string base;  // this file takes the place of `base:`, also in the included ones; "": as written
};

// Paths of configs/ that are not there mean the files that came with the programs (base/installed.hpp). Throws
// UsageError "settings: FILE:LINE: KEY: found ..., expected ..." that also tells where the other problems are.
Experiment load_experiment(const std::string& yaml_path, const LoadOptions& options = {});

// The grid, point by point: the product of the groups (last one fastest), then the extra points; included experiments
// are left out. Each is checked as if it had been written in the file: the message names the value's line. Throws
// UsageError on more than a million trials (before anything is expanded), on two equal points, on an `exclude` that
// leaves out nothing.
void for_each_variant(const Experiment& experiment, const std::function<void(const Variant&)>& use);
std::vector<Variant> expand(const Experiment& experiment);

// The points that a search draws. A value depends on the search's seed, its key and the draw's number alone, so that
// more trials later keep the first ones.
std::vector<PointValues> search_draws(const SearchSettings& search);

Json to_json(const ExperimentSettings& settings);   // {"model", "train", "evaluate", "resources"}
Json to_json(const Experiment& experiment);         // resolved, with the included ones under "included"
std::string to_yaml(const Experiment& experiment);  // included ones as further documents

// As plans keep them.
Json to_json(const Table& table);
Table table_from_json(const Json& json);
Json to_json(const SearchSettings& search);
SearchSettings search_from_json(const Json& json);

}  // namespace filo
