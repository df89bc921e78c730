// How sure a class's metrics are: percentile intervals over resamples of its images (Efron's bootstrap).
//
// A resample draws as many images as there are, with replacement, normal ones among the normal and anomalous ones among
// the anomalous, so that none is one-sided. Metrics of image scores are exact in each. Those of pixels are made from a
// histogram of each image over some 2,048 bins of the class's scores, so that a resample is a weighted sum; a bin is
// one threshold. The same labels and name give the same draws everywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "trainer/threshold_walk.hpp"

namespace filo {

struct Resamples {
  std::size_t count = 0;
  std::vector<std::uint16_t> weights{};  // [images, count]: how often a resample drew an image
};

constexpr std::size_t resample_count = 1000;

// `labels`: 0 or 1, one for each image.
Resamples draw_resamples(std::span<const std::uint8_t> labels, std::string_view name,
                         std::size_t count = resample_count);

// One for each resample. Throws Error as binary_metrics().
std::vector<Metrics> resampled_metrics(std::span<const float> scores, std::span<const std::uint8_t> labels,
                                       const Resamples& resamples);

// The 2.5th and the 97.5th percentile of the values that are numbers, interpolated; unset where there is none.
std::optional<std::pair<double, double>> interval_95(std::vector<double> values);

// Histograms of images, [images, stride] each: defect-free pixels, defect pixels, and the sum over these of 1 / (pixels
// of their region).
struct Histograms {
  std::size_t stride = 0;
  std::vector<float> clean{}, defects{}, overlap{};
};

// The resamples' weighted sums of histograms: 12 bytes for each resample and bin. Images come in blocks, a block's bins
// in any number of calls. Not thread-safe; works on `threads`.
class ResampledHistograms {
 public:
  ResampledHistograms(const Resamples& resamples, std::size_t bins, int threads);

  // `images`: their places in the resamples; bin 0 of `histograms` is bin `first_bin` here. `has_defects`: whose second
  // and third histogram are not all 0.
  void add(std::span<const std::size_t> images, const std::vector<bool>& has_defects, const Histograms& histograms,
           std::size_t first_bin, std::size_t bins);

  // One for each resample, and one more: of all images as they are.
  std::vector<PixelMetrics> metrics(std::span<const double> fpr_limits) const;

  static constexpr std::size_t lanes = 64;  // bins at a time: histograms' strides are multiples of it
  static std::size_t bytes(std::size_t resamples, std::size_t bins);

 private:
  struct Drawn {
    std::uint32_t image;  // of the block
    float weight;
  };
  struct Draws {
    std::vector<std::size_t> begin;  // of each row, and the end
    std::vector<Drawn> drawn;
  };
  std::size_t rows() const { return resamples_.count + 1; }
  Draws draws_of(std::span<const std::size_t> images, const std::vector<bool>* chosen) const;
  void add(const Draws& draws, const std::vector<float>& histograms, std::size_t stride, std::size_t bins,
           std::size_t first_bin, std::vector<float>& sums) const;

  const Resamples& resamples_;
  std::size_t bins_, stride_;
  int threads_;
  std::vector<float> clean_, defects_, overlap_;  // [rows, stride]
};

}  // namespace filo
