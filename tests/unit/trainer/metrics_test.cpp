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

// Guards the weighting: each region counts the same, however small; a perfect map has 1.
TEST(Aupro, RegionsCountTheSame) {
  const Labels mask = {1, 1, 1, 0,  //
                       1, 1, 1, 0,  //
                       0, 0, 0, 0,  //
                       0, 0, 0, 1};
  Scores perfect(mask.begin(), mask.end());
  EXPECT_DOUBLE_EQ(aupro(perfect, mask, 4, 4, 1), 1);
  Scores without_small = perfect;
  without_small[15] = -1;  // found only after all else
  EXPECT_DOUBLE_EQ(aupro(without_small, mask, 4, 4, 1), 0.5);
}

// Guards the neighbourhood: pixels that touch at a corner are one region, and a U is one, too.
TEST(Aupro, EightNeighbours) {
  const Labels corner = {1, 1, 0,  //
                         0, 0, 1,  //
                         0, 0, 0};
  const Scores two_of_three = {3, 2, 0,   //
                               0, 0, -1,  //
                               0, 0, 0};
  EXPECT_DOUBLE_EQ(aupro(two_of_three, corner, 3, 3, 1, 1.0), 2.0 / 3);  // two regions would give 1/2
  const Labels u = {1, 0, 1,                                             //
                    1, 0, 1,                                             //
                    1, 1, 1, 0, 0, 0, 1, 0, 0};
  Scores found(u.begin(), u.end());
  found[12] = -1;  // the second region: half of the mean
  EXPECT_DOUBLE_EQ(aupro(found, u, 5, 3, 1, 0.5), 0.5);
}

TEST(Aupro, ConstantMapsAndLimit) {
  const Labels mask = {1, 0, 0, 0};
  EXPECT_DOUBLE_EQ(aupro(Scores(4, 0.5f), mask, 2, 2, 1, 1.0), 0.5);
  EXPECT_DOUBLE_EQ(aupro(Scores(4, 0.5f), mask, 2, 2, 1, 0.3), 0.15);
  EXPECT_TRUE(std::isnan(aupro(Scores(4, 0.5f), Labels(4, 0), 2, 2, 1)));
  EXPECT_TRUE(std::isnan(aupro(Scores(4, 0.5f), Labels(4, 1), 2, 2, 1)));
  EXPECT_THROW(aupro(Scores(4, 0.5f), mask, 2, 3, 1), Error);
  EXPECT_THROW(aupro(Scores(4, 0.5f), mask, 2, 2, 1, 0.0), Error);
  EXPECT_THROW(aupro(Scores(4, NAN), mask, 2, 2, 1), Error);
}

}  // namespace
}  // namespace filo
