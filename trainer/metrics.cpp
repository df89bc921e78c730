#include "trainer/metrics.hpp"

#include <cmath>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "trainer/score_keys.hpp"

namespace filo {

Metrics binary_metrics(std::span<const float> scores, std::span<const std::uint8_t> labels) {
  if (scores.empty() || scores.size() != labels.size())
    throw Error("metrics", std::to_string(scores.size()) + " scores and " + std::to_string(labels.size()) +
                               " labels found, expected as many of both, at least one");
  std::vector<std::uint64_t> entries, other;
  double positives = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (std::isnan(scores[i])) throw Error("metrics", "score " + std::to_string(i) + " is NaN, expected a number");
    if (labels[i] > 1)
      throw Error("metrics",
                  "label " + std::to_string(i) + " found: " + std::to_string(labels[i]) + ", expected 0 or 1");
    entries.push_back(entry_of(descending_key(scores[i]), labels[i]));
    positives += labels[i];
  }
  sort_by_key(entries, other);

  ThresholdWalk walk(static_cast<double>(scores.size()) - positives, positives);
  for (std::size_t begin = 0; begin < entries.size();) {
    std::size_t end = begin;
    double hits = 0;
    for (; end < entries.size() && key_of(entries[end]) == key_of(entries[begin]); ++end)
      hits += payload_of(entries[end]);
    walk.step(static_cast<double>(end - begin) - hits, hits);
    begin = end;
  }
  return walk.metrics();
}

}  // namespace filo
