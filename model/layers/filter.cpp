#include "model/layers/filter.hpp"

#include <algorithm>

namespace filo {
namespace {

std::vector<bool> outside(const std::vector<double>& distances, double low, double high) {
  std::vector<bool> kept;
  for (const double distance : distances) kept.push_back(!(distance >= low && distance <= high));
  if (std::find(kept.begin(), kept.end(), true) == kept.end()) {
    kept[static_cast<std::size_t>(std::min_element(distances.begin(), distances.end()) - distances.begin())] = true;
  }
  return kept;
}

}  // namespace

FilteredPrompts filter_prompts(const std::vector<double>& normal, const std::vector<double>& abnormal) {
  FilteredPrompts all{std::vector<bool>(normal.size(), true), std::vector<bool>(abnormal.size(), true)};
  if (normal.empty() || abnormal.empty()) return all;
  const auto [normal_min, normal_max] = std::minmax_element(normal.begin(), normal.end());
  const auto [abnormal_min, abnormal_max] = std::minmax_element(abnormal.begin(), abnormal.end());
  const double low = std::max(*normal_min, *abnormal_min);
  const double high = std::min(*normal_max, *abnormal_max);
  if (low > high) return all;
  return {outside(normal, low, high), outside(abnormal, low, high)};
}

}  // namespace filo
