// Exact detection metrics of a list of scores. No thresholds are sampled; tied scores are one threshold, as in
// scikit-learn. Of a class's pixels: pixel_metrics.hpp.
#pragma once

#include <cstdint>
#include <span>

#include "trainer/threshold_walk.hpp"

namespace filo {

// `labels`: 0 or 1, as many as scores. With labels of one kind only there is nothing to rank: all three are NaN (which
// JSON writes as null). Throws Error on unequal sizes, no scores, a label other than 0 and 1, or a NaN score.
Metrics binary_metrics(std::span<const float> scores, std::span<const std::uint8_t> labels);

}  // namespace filo
