// Exact metrics of all pixels of a class, in bounded memory and on several threads. No thresholds are sampled; tied
// scores are one threshold, as in scikit-learn.
//
// Between two scores of defect pixels every metric depends on how many defect-free pixels lie there, not on where. So
// the defect pixels, few of all, are sorted; and each image's defect-free pixels, sorted by themselves, are counted
// into the gaps. Where the defect pixels do not fit into the memory, the scores are cut into ranges, and the maps are
// read again for each. What is exact does not depend, to the last bit, on the memory, on where the maps lie, or on the
// threads; intervals may differ by the rounding of a float where the memory decides on other ranges.
#pragma once

#include <cstddef>
#include <vector>

#include "trainer/anomaly_maps.hpp"
#include "trainer/bootstrap.hpp"
#include "trainer/threshold_walk.hpp"

namespace filo {

struct PixelMetricsOptions {
  // Limits of AUPRO, each above 0 and at most 1: the area under the per-region overlap curve up to that false positive
  // rate, divided by it (Bergmann et al., MVTec-AD). At each threshold the mean over all connected regions
  // (8-neighbourhood) of the fraction of the region's pixels with score >= threshold, over the fraction of all
  // defect-free pixels with score >= threshold. Trapezoids between all distinct scores; linear interpolation at the
  // limit.
  std::vector<double> fpr_limits = {0.3};
  int threads = 1;
  const Resamples* resamples = nullptr;  // of the images of `maps`
};

struct PixelMetricsResult {
  PixelMetrics exact{};  // NaN where no image has a defect, or no pixel is defect-free
  // With resamples, one for each: from binned scores (bootstrap.hpp), moved by what the bins make of the whole.
  std::vector<PixelMetrics> resampled{};
  PixelMetrics binned{};   // of the images as they are, from the bins
  std::size_t passes = 0;  // over the maps
};

// Of the images of these numbers; each image of `maps` was put. Throws Error on a limit outside (0, 1].
PixelMetricsResult pixel_metrics(const AnomalyMaps& maps, const std::vector<std::size_t>& images,
                                 const PixelMetricsOptions& options);
// Of all images.
PixelMetricsResult pixel_metrics(const AnomalyMaps& maps, const PixelMetricsOptions& options);

// An upper bound of the memory that a class takes with its metrics and intervals, beside what the program takes anyway.
std::size_t metrics_memory_bytes(std::size_t images, std::size_t area, std::size_t memory_bytes, int threads);

}  // namespace filo
