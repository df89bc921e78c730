#include "model/layers/filter.hpp"

#include <gtest/gtest.h>

namespace filo {
namespace {

using Kept = std::vector<bool>;

TEST(Filter, RemovesFromBothSetsWhatLiesInTheOverlap) {
  // Guards D_c = [max(0.1, 0.3), min(0.5, 0.9)] = [0.3, 0.5].
  const auto kept = filter_prompts({0.1, 0.2, 0.35, 0.5}, {0.3, 0.4, 0.51, 0.9});
  EXPECT_EQ(kept.normal, (Kept{true, true, false, false}));
  EXPECT_EQ(kept.abnormal, (Kept{false, false, true, true}));
}

TEST(Filter, RemovesNothingWhereTheSetsDoNotOverlap) {
  // Guards the empty interval: [0.5, 0.2] here.
  const auto kept = filter_prompts({0.1, 0.2}, {0.5, 0.6});
  EXPECT_EQ(kept.normal, (Kept{true, true}));
  EXPECT_EQ(kept.abnormal, (Kept{true, true}));
}

TEST(Filter, TheIntervalHoldsItsEnds) {
  // Guards the interval of one point, [0.3, 0.3]: it is closed, so it is not empty.
  const auto kept = filter_prompts({0.1, 0.3}, {0.3, 0.6});
  EXPECT_EQ(kept.normal, (Kept{true, false}));
  EXPECT_EQ(kept.abnormal, (Kept{false, true}));
}

TEST(Filter, ASetThatWouldEndEmptyKeepsItsNearest) {
  // Guards a set that lies inside the other's range: D_c = [0.3, 0.5] covers all abnormal prompts.
  const auto kept = filter_prompts({0.1, 0.9}, {0.5, 0.3, 0.4});
  EXPECT_EQ(kept.normal, (Kept{true, true}));
  EXPECT_EQ(kept.abnormal, (Kept{false, true, false}));
}

TEST(Filter, BothSetsMayEndEmptyAndKeepOneEach) {
  // Guards equal sets: everything is inside.
  const auto kept = filter_prompts({0.4, 0.2}, {0.2, 0.4});
  EXPECT_EQ(kept.normal, (Kept{false, true}));
  EXPECT_EQ(kept.abnormal, (Kept{true, false}));
}

TEST(Filter, OfEquallyNearPromptsTheFirstStays) {
  // Guards ties, so that the same prompts stay on each run.
  const auto kept = filter_prompts({0.3, 0.3, 0.3}, {0.3, 0.3});
  EXPECT_EQ(kept.normal, (Kept{true, false, false}));
  EXPECT_EQ(kept.abnormal, (Kept{true, false}));
}

TEST(Filter, SinglePromptsStay) {
  // Guards sets of one, which no overlap may empty.
  for (const double abnormal : {0.1, 0.2, 0.3}) {
    const auto kept = filter_prompts({0.2}, {abnormal});
    EXPECT_EQ(kept.normal, Kept{true});
    EXPECT_EQ(kept.abnormal, Kept{true});
  }
}

TEST(Filter, AnEmptySetRemovesNothing) {
  // Guards against reading the ends of an empty set.
  EXPECT_EQ(filter_prompts({}, {0.1, 0.2}).abnormal, (Kept{true, true}));
  EXPECT_TRUE(filter_prompts({}, {}).normal.empty());
}

}  // namespace
}  // namespace filo
