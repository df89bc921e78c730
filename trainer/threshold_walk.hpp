// All metrics of one walk over the thresholds, from the highest score down: what metrics.hpp and pixel_metrics.hpp
// define, whether the thresholds are all distinct scores or bins of them.
#pragma once

#include <span>
#include <vector>

namespace filo {

struct Metrics {
  double auroc = 0;   // area under the ROC curve (roc_auc_score)
  double ap = 0;      // average precision: sum of precision x recall step (average_precision_score)
  double f1_max = 0;  // largest F1 over all thresholds (max over precision_recall_curve)
};

// Of the pixels of several images.
struct PixelMetrics {
  Metrics metrics{};
  std::vector<double> aupro{};  // for each limit
};

// Counts are whole numbers (or weighted ones), exact below 2^53. Steps without positives are put together with the next
// ones, so that the sums do not depend on how they were split.
class ThresholdWalk {
 public:
  ThresholdWalk(double negatives, double positives, std::span<const double> fpr_limits = {});

  // The next threshold: how many negatives and positives have that score, and `overlap`, the sum over these positives
  // of 1 / (pixels of their region).
  void step(double negatives, double positives, double overlap = 0);

  // After the last step. NaN without a positive or without a negative.
  Metrics metrics();
  // One for each limit, for so many regions in all; NaN without a region or without a negative.
  std::vector<double> aupro(double regions);

 private:
  struct Limit {
    double false_positives = 0;
    double area = 0;
  };
  void advance(double negatives, double positives, double overlap);
  void flush();

  double negatives_, positives_;
  double waiting_ = 0;  // negatives since the last positive
  double true_positives_ = 0, false_positives_ = 0, overlap_ = 0;
  Metrics sums_;
  std::vector<Limit> limits_;
};

}  // namespace filo
