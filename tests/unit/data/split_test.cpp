#include "data/split.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace filo {
namespace {

std::vector<std::string> strata() {
  std::vector<std::string> names(40, "cable 0");
  names.insert(names.end(), 10, "cable 1");
  names.insert(names.end(), 3, "screw 0");
  names.insert(names.end(), 1, "screw 1");
  return names;
}

std::size_t held_of(const Split& split, const std::string& stratum) {
  const auto names = strata();
  return static_cast<std::size_t>(
      std::ranges::count_if(split.validation, [&](std::size_t i) { return names[i] == stratum; }));
}

// Guards a validation that has no anomalous image of a class, and a training without one.
TEST(Split, HoldsBackAShareOfEachStratum) {
  const Split split = split_samples(strata(), 0.2, 7);
  EXPECT_EQ(held_of(split, "cable 0"), 8u);
  EXPECT_EQ(held_of(split, "cable 1"), 2u);
  EXPECT_EQ(held_of(split, "screw 0"), 1u);
  EXPECT_EQ(held_of(split, "screw 1"), 0u) << "the only one is trained on";
  std::vector<std::size_t> all = split.train;
  all.insert(all.end(), split.validation.begin(), split.validation.end());
  std::ranges::sort(all);
  for (std::size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], i) << "each image is on one side, once";
  EXPECT_EQ(all.size(), strata().size());
  EXPECT_TRUE(std::ranges::is_sorted(split.train));
}

// Guards a resume on another host: the same seed gives the same split.
TEST(Split, IsDecidedByTheSeed) {
  EXPECT_EQ(split_samples(strata(), 0.2, 7).validation, split_samples(strata(), 0.2, 7).validation);
  EXPECT_NE(split_samples(strata(), 0.2, 7).validation, split_samples(strata(), 0.2, 8).validation);
}

TEST(Split, WithoutAFractionAllAreTrainedOn) {
  EXPECT_TRUE(split_samples(strata(), 0, 7).validation.empty());
  EXPECT_EQ(split_samples(strata(), 0, 7).train.size(), strata().size());
  EXPECT_EQ(held_of(split_samples(strata(), 0.9, 7), "screw 0"), 2u) << "never all";
}

}  // namespace
}  // namespace filo
