#include "trainer/metrics.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.hpp"
#include "base/random.hpp"

namespace filo {
namespace {

using Labels = std::vector<std::uint8_t>;
using Scores = std::vector<float>;

TEST(BinaryMetrics, KnownByHand) {
  // ranks: 1 0 1 0 -> AUROC 3/4, AP (1 + 2/3)/2, best F1 at threshold 0.7: 4/5
  const Metrics metrics = binary_metrics(Scores{0.1f, 0.9f, 0.8f, 0.7f}, Labels{0, 1, 0, 1});
  EXPECT_DOUBLE_EQ(metrics.auroc, 0.75);
  EXPECT_DOUBLE_EQ(metrics.ap, (1 + 2.0 / 3) / 2);
  EXPECT_DOUBLE_EQ(metrics.f1_max, 0.8);
}

// Guards ties: equal scores are one threshold, whatever their order in memory; -0 and +0 are equal.
TEST(BinaryMetrics, TiesAreOneThreshold) {
  for (const Labels& labels : {Labels{1, 0, 0, 1}, Labels{0, 1, 1, 0}}) {
    const Metrics metrics = binary_metrics(Scores{0.0f, -0.0f, 0.0f, -0.0f}, labels);
    EXPECT_DOUBLE_EQ(metrics.auroc, 0.5);
    EXPECT_DOUBLE_EQ(metrics.ap, 0.5);
    EXPECT_DOUBLE_EQ(metrics.f1_max, 2.0 / 3);
  }
}

// Guards the order of the sort's keys: negative, tiny, huge and infinite scores.
TEST(BinaryMetrics, AnyFloatIsRanked) {
  const float infinity = std::numeric_limits<float>::infinity();
  const Scores ascending = {-infinity, -3e38f, -1.0f, -1e-45f, 0.0f, 1e-45f, 1e-30f, 1.0f, 3e38f, infinity};
  for (std::size_t cut = 1; cut < ascending.size(); ++cut) {
    Labels labels(ascending.size(), 0);
    std::fill(labels.begin() + static_cast<std::ptrdiff_t>(cut), labels.end(), std::uint8_t{1});
    EXPECT_EQ(binary_metrics(ascending, labels).auroc, 1) << cut;
    EXPECT_EQ(binary_metrics(ascending, labels).f1_max, 1) << cut;
  }
}

TEST(BinaryMetrics, OneKindOfLabelsIsNotANumberAndBadInputAnError) {
  EXPECT_TRUE(std::isnan(binary_metrics(Scores{1, 2}, Labels{1, 1}).auroc));
  EXPECT_TRUE(std::isnan(binary_metrics(Scores{1, 2}, Labels{0, 0}).f1_max));
  EXPECT_THROW(binary_metrics(Scores{}, Labels{}), Error);
  EXPECT_THROW(binary_metrics(Scores{1}, Labels{0, 1}), Error);
  EXPECT_THROW(binary_metrics(Scores{1, 2}, Labels{0, 2}), Error);
  EXPECT_THROW(binary_metrics(Scores{1, NAN}, Labels{0, 1}), Error);
}

}  // namespace
}  // namespace filo
