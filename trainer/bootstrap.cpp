#include "trainer/bootstrap.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "base/random.hpp"
#include "data/parallel.hpp"
#include "trainer/metrics.hpp"
#include "trainer/score_keys.hpp"

namespace filo {
namespace {

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define FILO_FOR_EACH_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FILO_FOR_EACH_CPU
#endif

using Lanes __attribute__((vector_size(64), aligned(4), may_alias)) = float;
constexpr std::size_t rows_at_a_time = 50;

// sums[bin] += sum over `count` images of weight x histogram[bin], for 64 bins. `Drawn`: image and weight.
template <typename Drawn>
inline __attribute__((always_inline)) void add_tile(const Drawn* drawn, std::size_t count, const float* histograms,
                                                    std::size_t stride, float* sums) {
  Lanes* to = reinterpret_cast<Lanes*>(sums);  // `auto` would forget the alignment
  Lanes a = to[0], b = to[1], c = to[2], d = to[3];
  for (std::size_t i = 0; i < count; ++i) {
    const Lanes* from = reinterpret_cast<const Lanes*>(histograms + drawn[i].image * stride);
    const float weight = drawn[i].weight;
    a += weight * from[0];
    b += weight * from[1];
    c += weight * from[2];
    d += weight * from[3];
  }
  to[0] = a;
  to[1] = b;
  to[2] = c;
  to[3] = d;
}

template <typename Drawn>
FILO_FOR_EACH_CPU void add_rows(const Drawn* drawn, const std::size_t* begin, std::size_t rows, const float* histograms,
                                std::size_t stride, float* sums, std::size_t sums_stride, std::size_t bins) {
  for (std::size_t bin = 0; bin < bins; bin += ResampledHistograms::lanes)
    for (std::size_t row = 0; row < rows; ++row)
      add_tile(drawn + begin[row], begin[row + 1] - begin[row], histograms + bin, stride,
               sums + row * sums_stride + bin);
}

double percentile(const std::vector<double>& sorted, double part) {
  const double place = part * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

}  // namespace

Resamples draw_resamples(std::span<const std::uint8_t> labels, std::string_view name, std::size_t count) {
  std::vector<std::size_t> strata[2];
  for (std::size_t i = 0; i < labels.size(); ++i) strata[labels[i] != 0 ? 1 : 0].push_back(i);
  Resamples resamples{.count = count, .weights = std::vector<std::uint16_t>(labels.size() * count)};
  for (std::size_t resample = 0; resample < count; ++resample) {
    Random random(0, name, resample);
    for (const auto& stratum : strata)
      for (std::size_t i = 0; i < stratum.size(); ++i)
        ++resamples.weights[stratum[random.below(stratum.size())] * count + resample];
  }
  return resamples;
}

std::vector<Metrics> resampled_metrics(std::span<const float> scores, std::span<const std::uint8_t> labels,
                                       const Resamples& resamples) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  const auto anomalous = static_cast<double>(std::count(labels.begin(), labels.end(), 1));
  std::vector<Metrics> all;
  for (std::size_t resample = 0; resample < resamples.count; ++resample) {
    ThresholdWalk walk(static_cast<double>(scores.size()) - anomalous, anomalous);
    for (std::size_t begin = 0; begin < order.size();) {
      double counts[2] = {0, 0};
      std::size_t end = begin;
      for (; end < order.size() && scores[order[end]] == scores[order[begin]]; ++end)
        counts[labels[order[end]]] += resamples.weights[order[end] * resamples.count + resample];
      walk.step(counts[0], counts[1]);
      begin = end;
    }
    all.push_back(walk.metrics());
  }
  return all;
}

std::optional<std::pair<double, double>> interval_95(std::vector<double> values) {
  std::erase_if(values, [](double value) { return std::isnan(value); });
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  return std::pair(percentile(values, 0.025), percentile(values, 0.975));
}

ResampledHistograms::ResampledHistograms(const Resamples& resamples, std::size_t bins, int threads)
    : resamples_(resamples), bins_(bins), stride_(bins + lanes), threads_(threads) {
  for (auto* sums : {&clean_, &defects_, &overlap_}) sums->resize(rows() * stride_);
}

std::size_t ResampledHistograms::bytes(std::size_t resamples, std::size_t bins) {
  return (resamples + 1) * (bins + lanes) * 3 * sizeof(float);
}

ResampledHistograms::Draws ResampledHistograms::draws_of(std::span<const std::size_t> images,
                                                         const std::vector<bool>* chosen) const {
  Draws draws;
  for (std::size_t row = 0; row < rows(); ++row) {
    draws.begin.push_back(draws.drawn.size());
    for (std::size_t i = 0; i < images.size(); ++i) {
      if (chosen != nullptr && !(*chosen)[i]) continue;
      const int weight = row < resamples_.count ? resamples_.weights[images[i] * resamples_.count + row] : 1;
      if (weight > 0)
        draws.drawn.push_back({.image = static_cast<std::uint32_t>(i), .weight = static_cast<float>(weight)});
    }
  }
  draws.begin.push_back(draws.drawn.size());
  return draws;
}

void ResampledHistograms::add(std::span<const std::size_t> images, const std::vector<bool>& has_defects,
                              const Histograms& histograms, std::size_t first_bin, std::size_t bins) {
  add(draws_of(images, nullptr), histograms.clean, histograms.stride, bins, first_bin, clean_);
  const Draws defective = draws_of(images, &has_defects);
  add(defective, histograms.defects, histograms.stride, bins, first_bin, defects_);
  add(defective, histograms.overlap, histograms.stride, bins, first_bin, overlap_);
}

void ResampledHistograms::add(const Draws& draws, const std::vector<float>& histograms, std::size_t stride,
                              std::size_t bins, std::size_t first_bin, std::vector<float>& sums) const {
  const std::size_t blocks = (rows() + rows_at_a_time - 1) / rows_at_a_time;
  parallel_for(blocks, threads_, [&](std::size_t block) {
    const std::size_t first = block * rows_at_a_time, end = std::min(first + rows_at_a_time, rows());
    add_rows(draws.drawn.data(), draws.begin.data() + first, end - first, histograms.data(), stride,
             sums.data() + first * stride_ + first_bin, stride_, bins);
  });
}

std::vector<PixelMetrics> ResampledHistograms::metrics(std::span<const double> fpr_limits) const {
  std::vector<PixelMetrics> all(rows());
  parallel_for(rows(), threads_, [&](std::size_t row) {
    const auto row_of = [&](const std::vector<float>& sums) { return std::span(sums).subspan(row * stride_, bins_); };
    const auto clean = row_of(clean_), defects = row_of(defects_), overlap = row_of(overlap_);
    const auto total = [](std::span<const float> values) { return std::accumulate(values.begin(), values.end(), 0.0); };
    ThresholdWalk walk(total(clean), total(defects), fpr_limits);
    for (std::size_t bin = 0; bin < bins_; ++bin) walk.step(clean[bin], defects[bin], overlap[bin]);
    all[row].metrics = walk.metrics();
    all[row].aupro = walk.aupro(total(overlap));
  });
  return all;
}

}  // namespace filo
