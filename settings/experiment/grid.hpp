// The grid's size; experiment.hpp has its points (for_each_variant, expand).
#pragma once

#include "settings/experiment/types.hpp"

namespace filo {

// Without folds and what `exclude` takes from it.
struct GridSize {
  std::size_t product = 0;  // points of the groups' product
  std::size_t points = 0;   // with the extra ones
  std::size_t repeats = 1;
};

// Throws UsageError where it makes more than a million trials.
GridSize grid_size(const Experiment& experiment);

}  // namespace filo
