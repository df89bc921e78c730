// A validation split: images of a training data set that are not trained on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace filo {

// Indices of samples, ascending.
struct Split {
  std::vector<std::size_t> train, validation;
};

// `strata`: of each sample, what it should be represented by: its class and label, say. Holds back `fraction` of each
// stratum, to the nearest whole number, but at least one and never all of it; an only sample of its stratum is trained
// on. A pure function of its arguments. fraction 0: all are trained on.
Split split_samples(const std::vector<std::string>& strata, double fraction, std::uint64_t seed);

}  // namespace filo
