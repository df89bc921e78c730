#include "data/split.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/random.hpp"

namespace filo {

Split split_samples(const std::vector<std::string>& strata, double fraction, std::uint64_t seed) {
  std::map<std::string, std::vector<std::size_t>> members;
  for (std::size_t i = 0; i < strata.size(); ++i) members[strata[i]].push_back(i);
  Split split;
  for (auto& [stratum, samples] : members) {
    const auto wanted = static_cast<std::size_t>(std::llround(fraction * static_cast<double>(samples.size())));
    const std::size_t held =
        fraction > 0 ? std::min(std::max<std::size_t>(wanted, 1), samples.size() - 1) : std::size_t{0};
    Random random(seed, "validation " + stratum);
    for (std::size_t i = samples.size(); i-- > 1;) std::swap(samples[i], samples[random.below(i + 1)]);
    const auto border = samples.begin() + static_cast<std::ptrdiff_t>(held);
    split.validation.insert(split.validation.end(), samples.begin(), border);
    split.train.insert(split.train.end(), border, samples.end());
  }
  std::ranges::sort(split.validation);
  std::ranges::sort(split.train);
  return split;
}

}  // namespace filo
