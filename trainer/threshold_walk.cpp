#include "trainer/threshold_walk.hpp"

#include <algorithm>
#include <limits>

namespace filo {
namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

}  // namespace

ThresholdWalk::ThresholdWalk(double negatives, double positives, std::span<const double> fpr_limits)
    : negatives_(negatives), positives_(positives) {
  limits_.reserve(fpr_limits.size());
  for (const double limit : fpr_limits) limits_.push_back({.false_positives = limit * negatives});
}

void ThresholdWalk::step(double negatives, double positives, double overlap) {
  if (positives == 0) {
    waiting_ += negatives;
    return;
  }
  flush();
  advance(negatives, positives, overlap);
}

void ThresholdWalk::flush() {
  if (waiting_ > 0) advance(waiting_, 0, 0);
  waiting_ = 0;
}

void ThresholdWalk::advance(double negatives, double positives, double overlap) {
  if (negatives > 0)
    for (Limit& limit : limits_) {
      if (false_positives_ >= limit.false_positives) continue;
      const double part = std::min(1.0, (limit.false_positives - false_positives_) / negatives);
      limit.area += part * negatives * (overlap_ + part * overlap / 2);
    }
  sums_.auroc += negatives * (true_positives_ + positives / 2);  // ties count half
  true_positives_ += positives;
  false_positives_ += negatives;
  overlap_ += overlap;
  if (positives == 0) return;  // recall stays, precision falls: nothing for AP, no larger F1
  sums_.ap += true_positives_ / (true_positives_ + false_positives_) * positives;
  sums_.f1_max = std::max(sums_.f1_max, 2 * true_positives_ / (true_positives_ + false_positives_ + positives_));
}

Metrics ThresholdWalk::metrics() {
  flush();
  if (positives_ == 0 || negatives_ == 0) return {not_a_number, not_a_number, not_a_number};
  return {.auroc = sums_.auroc / (positives_ * negatives_), .ap = sums_.ap / positives_, .f1_max = sums_.f1_max};
}

std::vector<double> ThresholdWalk::aupro(double regions) {
  flush();
  std::vector<double> values;
  values.reserve(limits_.size());
  for (const Limit& limit : limits_)
    values.push_back(regions == 0 || negatives_ == 0 ? not_a_number : limit.area / (limit.false_positives * regions));
  return values;
}

}  // namespace filo
