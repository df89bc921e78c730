#include "trainer/metrics.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/error.hpp"

namespace filo {
namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

// An unsigned key in the opposite order of the floats, so that ascending keys are descending scores. -0 equals +0.
std::uint32_t descending_key(float score) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(score == 0 ? 0.0f : score);
  return (bits & 0x80000000u) != 0 ? bits : ~(bits | 0x80000000u);
}

std::uint32_t key_of(std::uint64_t entry) { return static_cast<std::uint32_t>(entry >> 32); }
std::uint32_t payload_of(std::uint64_t entry) { return static_cast<std::uint32_t>(entry); }

// Score and payload in one word: the upper half is the key.
std::uint64_t pack(float score, std::uint32_t payload, std::size_t index) {
  if (std::isnan(score)) throw Error("metrics", "score " + std::to_string(index) + " is NaN, expected a number");
  return static_cast<std::uint64_t>(descending_key(score)) << 32 | payload;
}

// By key (upper half), stable: least significant digit first, three digits of 11, 11 and 10 bits.
void sort_by_key(std::vector<std::uint64_t>& entries) {
  std::vector<std::uint64_t> other(entries.size());
  for (const unsigned shift : {32u, 43u, 54u}) {
    constexpr std::size_t digits = 2048;
    std::array<std::size_t, digits> place{};
    for (const std::uint64_t entry : entries) ++place[entry >> shift & (digits - 1)];
    std::size_t sum = 0;
    for (std::size_t& count : place) sum += std::exchange(count, sum);
    for (const std::uint64_t entry : entries) other[place[entry >> shift & (digits - 1)]++] = entry;
    entries.swap(other);
  }
}

// Calls step(begin, end) for each run of equal scores, from the highest on.
template <typename Step>
void for_each_threshold(const std::vector<std::uint64_t>& entries, const Step& step) {
  for (std::size_t begin = 0; begin < entries.size();) {
    std::size_t end = begin + 1;
    while (end < entries.size() && key_of(entries[end]) == key_of(entries[begin])) ++end;
    if (!step(begin, end)) return;
    begin = end;
  }
}

std::uint32_t root_of(std::vector<std::uint32_t>& parents, std::uint32_t node) {
  while (parents[node] != node) {
    parents[node] = parents[parents[node]];
    node = parents[node];
  }
  return node;
}

// The regions (8-neighbourhood) of one mask: `regions` gets 0 where defect-free, else the number of the region over all
// masks, from 1 on; `sizes` gets each new one's pixel count.
void label_regions(std::span<const std::uint8_t> mask, std::size_t height, std::size_t width,
                   std::span<std::uint32_t> regions, std::vector<std::uint64_t>& sizes) {
  std::vector<std::uint32_t> parents = {0};
  const auto join = [&](std::uint32_t& label, std::uint32_t neighbour) {
    if (neighbour == 0) return;
    const std::uint32_t root = root_of(parents, neighbour);
    if (label == 0) {
      label = root;
    } else {
      const std::uint32_t own = root_of(parents, label);
      parents[std::max(own, root)] = std::min(own, root);
      label = std::min(own, root);
    }
  };
  for (std::size_t y = 0; y < height; ++y) {
    for (std::size_t x = 0; x < width; ++x) {
      const std::size_t pixel = y * width + x;
      regions[pixel] = 0;
      if (mask[pixel] == 0) continue;
      std::uint32_t label = 0;
      if (x > 0) join(label, regions[pixel - 1]);
      if (y > 0) {
        if (x > 0) join(label, regions[pixel - width - 1]);
        join(label, regions[pixel - width]);
        if (x + 1 < width) join(label, regions[pixel - width + 1]);
      }
      if (label == 0) {
        label = static_cast<std::uint32_t>(parents.size());
        parents.push_back(label);
      }
      regions[pixel] = label;
    }
  }
  std::vector<std::uint32_t> number(parents.size(), 0);
  for (std::size_t pixel = 0; pixel < regions.size(); ++pixel) {
    if (regions[pixel] == 0) continue;
    std::uint32_t& region = number[root_of(parents, regions[pixel])];
    if (region == 0) {
      sizes.push_back(0);
      region = static_cast<std::uint32_t>(sizes.size());
    }
    regions[pixel] = region;
    ++sizes[region - 1];
  }
}

void check_labels(std::span<const std::uint8_t> labels) {
  for (std::size_t i = 0; i < labels.size(); ++i)
    if (labels[i] > 1)
      throw Error("metrics",
                  "label " + std::to_string(i) + " found: " + std::to_string(labels[i]) + ", expected 0 or 1");
}

}  // namespace

Metrics binary_metrics(std::span<const float> scores, std::span<const std::uint8_t> labels) {
  if (scores.empty() || scores.size() != labels.size())
    throw Error("metrics", std::to_string(scores.size()) + " scores and " + std::to_string(labels.size()) +
                               " labels found, expected as many of both, at least one");
  check_labels(labels);
  std::vector<std::uint64_t> entries(scores.size());
  double positives = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    entries[i] = pack(scores[i], labels[i], i);
    positives += labels[i];
  }
  const double negatives = static_cast<double>(scores.size()) - positives;
  if (positives == 0 || negatives == 0) return {not_a_number, not_a_number, not_a_number};
  sort_by_key(entries);

  Metrics metrics;
  double true_positives = 0, false_positives = 0;
  for_each_threshold(entries, [&](std::size_t begin, std::size_t end) {
    double hits = 0;
    for (std::size_t i = begin; i < end; ++i) hits += payload_of(entries[i]);
    const double misses = static_cast<double>(end - begin) - hits;
    metrics.auroc += misses * (true_positives + hits / 2);  // ties count half
    true_positives += hits;
    false_positives += misses;
    const double precision = true_positives / (true_positives + false_positives);
    metrics.ap += precision * hits;
    metrics.f1_max = std::max(metrics.f1_max, 2 * true_positives / (true_positives + false_positives + positives));
    return true;
  });
  metrics.auroc /= positives * negatives;
  metrics.ap /= positives;
  return metrics;
}

double aupro(std::span<const float> maps, std::span<const std::uint8_t> masks, std::size_t height, std::size_t width,
             std::size_t count, double fpr_limit) {
  constexpr std::size_t most = std::numeric_limits<std::uint32_t>::max();
  const bool fits = height > 0 && width > 0 && height <= most / width && count <= most / (height * width);
  if (!fits || maps.size() != height * width * count || masks.size() != maps.size())
    throw Error("metrics", "aupro: " + std::to_string(maps.size()) + " scores and " + std::to_string(masks.size()) +
                               " mask pixels found, expected " + std::to_string(count) + " x " +
                               std::to_string(height) + " x " + std::to_string(width) + ", below 2^32 in all");
  if (!(fpr_limit > 0 && fpr_limit <= 1))
    throw Error("metrics", "aupro: limit found: " + std::to_string(fpr_limit) + ", expected above 0 and at most 1");
  check_labels(masks);

  std::vector<std::uint64_t> entries(maps.size());
  std::vector<std::uint64_t> region_sizes;
  double defect_free = 0;
  {
    std::vector<std::uint32_t> regions(height * width);
    for (std::size_t image = 0; image < count; ++image) {
      const std::size_t first = image * regions.size();
      label_regions(masks.subspan(first, regions.size()), height, width, regions, region_sizes);
      for (std::size_t i = 0; i < regions.size(); ++i) {
        entries[first + i] = pack(maps[first + i], regions[i], first + i);
        defect_free += regions[i] == 0 ? 1 : 0;
      }
    }
  }
  if (region_sizes.empty() || defect_free == 0) return not_a_number;
  sort_by_key(entries);

  std::vector<double> share(region_sizes.size());  // what one pixel adds to the mean overlap
  for (std::size_t i = 0; i < share.size(); ++i)
    share[i] = 1.0 / (static_cast<double>(region_sizes[i]) * static_cast<double>(share.size()));
  double area = 0, overlap = 0, false_positives = 0;
  const double limit = fpr_limit * defect_free;  // in pixels
  for_each_threshold(entries, [&](std::size_t begin, std::size_t end) {
    double wrong = 0, gain = 0;
    for (std::size_t i = begin; i < end; ++i) {
      const std::uint32_t region = payload_of(entries[i]);
      if (region == 0)
        ++wrong;
      else
        gain += share[region - 1];
    }
    const double part = wrong > 0 ? std::min(1.0, (limit - false_positives) / wrong) : 1.0;
    area += part * wrong * (overlap + part * gain / 2);
    overlap += gain;
    false_positives += wrong;
    return false_positives < limit;
  });
  return area / limit;
}

}  // namespace filo
