// Exact detection metrics by sorting once. No thresholds are sampled; tied scores are one threshold, as in
// scikit-learn.
//
// Memory: binary_metrics 8 bytes a score beside the input (in all 16 for a radix sort of packed keys); aupro about 24
// bytes a pixel. 100 maps of 518x518 take seconds. Not a number among the scores is an Error. Thread-safe (no state).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace filo {

struct Metrics {
  double auroc = 0;   // area under the ROC curve (roc_auc_score)
  double ap = 0;      // average precision: sum of precision x recall step (average_precision_score)
  double f1_max = 0;  // largest F1 over all thresholds (max over precision_recall_curve)
};

// `labels`: 0 or 1, as many as scores. With labels of one kind only there is nothing to rank: all three are NaN (which
// JSON writes as null). Throws Error on unequal sizes, no scores, a label other than 0 and 1, or a NaN score.
Metrics binary_metrics(std::span<const float> scores, std::span<const std::uint8_t> labels);

// Area under the per-region overlap curve up to the false positive rate `fpr_limit`, divided by it (Bergmann et al.,
// MVTec-AD): at each threshold the mean over all connected regions (8-neighbourhood) of the fraction of the region's
// pixels with score >= threshold, over the fraction of all defect-free pixels with score >= threshold. Trapezoids
// between all distinct scores; linear interpolation at the limit. `maps`, `masks`: [count, height, width], masks 0
// or 1. NaN when no mask has a region or no pixel is defect-free. Throws Error on wrong sizes, a limit outside (0, 1],
// NaN scores.
double aupro(std::span<const float> maps, std::span<const std::uint8_t> masks, std::size_t height, std::size_t width,
             std::size_t count, double fpr_limit = 0.3);

}  // namespace filo
