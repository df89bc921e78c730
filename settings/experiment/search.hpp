// `search:`, and the points that it draws (experiment.hpp has search_draws()).
#pragma once

#include <optional>

#include "settings/experiment/axes.hpp"
#include "settings/experiment/types.hpp"

namespace filo {

struct SearchRead {
  SearchSettings settings;
  Json resolved;  // in the shape of the file, every key present
};

// Nothing where the file has none. `train`: its main epochs are where asha stops deciding unless told
// otherwise.
// Throws UsageError where a key or a type is wrong; what else is goes to `problems`.
std::optional<SearchRead> read_search(const SourceValue& experiment, const TrainSettings& train, AxisKeys& keys,
                                      Problems& problems);

AxisGroup draws_group(const SearchSettings& search);  // one assignment per draw

}  // namespace filo
