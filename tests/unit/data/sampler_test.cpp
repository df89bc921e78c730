#include "data/sampler.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "base/error.hpp"

namespace filo {
namespace {

std::vector<std::size_t> over_all_ranks(std::size_t count, std::size_t batch, int world, std::int64_t epoch,
                                        std::size_t step) {
  std::vector<std::size_t> all;
  for (int rank = 0; rank < world; ++rank) {
    const auto local = EpochSampler({.count = count}, batch, rank, world, 7).local_batch(epoch, step);
    all.insert(all.end(), local.begin(), local.end());
  }
  return all;
}

std::vector<std::size_t> order_of(const EpochSampler& sampler, std::int64_t epoch) {
  std::vector<std::size_t> order;
  for (std::size_t step = 0; step < sampler.steps_per_epoch(); ++step)
    for (const std::size_t sample : sampler.global_batch(epoch, step)) order.push_back(sample);
  return order;
}

// Guards resuming on another number of ranks: the samples of a step are the same, in the same order, for any world
// size.
TEST(EpochSampler, AStepIsTheSameOnAnyNumberOfRanks) {
  const EpochSampler alone({.count = 53}, 8, 0, 1, 7);
  for (std::int64_t epoch = 0; epoch < 3; ++epoch)
    for (std::size_t step = 0; step < alone.steps_per_epoch(); ++step)
      for (const int world : {2, 3, 8, 11})
        EXPECT_EQ(over_all_ranks(53, 8, world, epoch, step), alone.global_batch(epoch, step)) << world;
}

TEST(EpochSampler, AnEpochTakesEachSampleOnceInAnOrderOfItsOwn) {
  const EpochSampler sampler({.count = 53}, 8, 0, 1, 7);
  EXPECT_EQ(sampler.steps_per_epoch(), 7u);
  auto first = order_of(sampler, 0), second = order_of(sampler, 1);
  EXPECT_NE(first, second);
  EXPECT_NE(first, order_of(EpochSampler({.count = 53}, 8, 0, 1, 8), 0));
  EXPECT_EQ(order_of(sampler, 0), first);  // and again the same
  std::sort(first.begin(), first.end());
  std::vector<std::size_t> all(53);
  std::iota(all.begin(), all.end(), std::size_t{0});
  EXPECT_EQ(first, all);
  EXPECT_EQ(sampler.global_batch(0, 6).size(), 5u);  // the last partial batch is kept
}

// Guards balance, and that the small last batch leaves some ranks without samples rather than with repeated ones.
TEST(EpochSampler, SlicesDifferByOneAndMayBeEmpty) {
  for (int rank = 0; rank < 4; ++rank) {
    const EpochSampler sampler({.count = 10}, 8, rank, 4, 1);
    EXPECT_EQ(sampler.local_batch(0, 0).size(), 2u);
    EXPECT_EQ(sampler.local_batch(0, 1).size(), rank < 2 ? 1u : 0u);
  }
}

// Guards classes of unequal size: of each as many samples an epoch, to one; those of a large class differ from epoch to
// epoch, none of a small one is left out.
TEST(EpochSampler, KindsAreTakenEquallyOften) {
  std::vector<std::size_t> kinds(20, 0);
  kinds[3] = kinds[4] = kinds[5] = 1;
  kinds[19] = 2;
  const EpochSampler sampler({.count = 20, .kinds = kinds}, 8, 0, 1, 7);
  std::set<std::size_t> of_large;
  for (std::int64_t epoch = 0; epoch < 8; ++epoch) {
    const auto order = order_of(sampler, epoch);
    ASSERT_EQ(order.size(), 20u);
    std::map<std::size_t, std::size_t> taken, of_kind;
    for (const std::size_t sample : order) {
      ++taken[sample];
      ++of_kind[kinds[sample]];
    }
    for (const std::size_t kind : {0u, 1u, 2u}) EXPECT_TRUE(of_kind[kind] == 6 || of_kind[kind] == 7) << kind;
    for (const std::size_t sample : {3u, 4u, 5u}) EXPECT_TRUE(taken[sample] == 2 || taken[sample] == 3);
    for (const auto& [sample, times] : taken) {
      if (kinds[sample] != 0) continue;
      EXPECT_EQ(times, 1u);
      of_large.insert(sample);
    }
  }
  EXPECT_EQ(of_large.size(), 16u);
}

// Guards that prompts of one class are encoded for a whole batch: batches of one group, each sample once, another order
// in every epoch.
TEST(EpochSampler, BatchesAreOfOneGroup) {
  std::vector<std::size_t> groups;
  for (std::size_t i = 0; i < 50; ++i) groups.push_back(i % 3);
  const EpochSampler sampler({.count = 50, .groups = groups}, 8, 0, 1, 7);
  for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
    for (std::size_t step = 0; step < 6; ++step) {
      std::set<std::size_t> found;
      for (const std::size_t sample : sampler.global_batch(epoch, step)) found.insert(groups[sample]);
      EXPECT_EQ(found.size(), 1u) << step;
    }
    auto order = order_of(sampler, epoch);
    EXPECT_NE(order, order_of(sampler, epoch + 1));
    std::sort(order.begin(), order.end());
    EXPECT_EQ(std::unique(order.begin(), order.end()), order.end());
    EXPECT_EQ(order.size(), 50u);
  }
}

// Guards mosaics: so many places as asked for have one of the sample's own substitutes, other ones in every epoch, and
// the order of the rest is what it is without them.
TEST(EpochSampler, SubstitutesStandInForSamples) {
  Samples samples{.count = 400};
  for (std::size_t i = 0; i < 400; ++i) {
    const std::size_t kind = i % 4;
    samples.substitutes.push_back(kind == 3 ? std::vector<std::size_t>()
                                            : std::vector<std::size_t>{400 + 2 * kind, 401 + 2 * kind});
  }
  samples.substitution = 0.2;
  const EpochSampler sampler(samples, 8, 0, 1, 7), plain({.count = 400}, 8, 0, 1, 7);
  std::set<std::size_t> seen;
  for (std::int64_t epoch = 0; epoch < 2; ++epoch) {
    const auto order = order_of(sampler, epoch), without = order_of(plain, epoch);
    std::size_t substituted = 0;
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (order[i] == without[i]) continue;
      ++substituted;
      seen.insert(order[i]);
      EXPECT_EQ((order[i] - 400) / 2, without[i] % 4) << "of another kind";
    }
    EXPECT_NEAR(static_cast<double>(substituted), 60, 20);
  }
  EXPECT_EQ(seen.size(), 6u);
  EXPECT_NE(order_of(sampler, 0), order_of(sampler, 1));
  EXPECT_EQ(order_of(EpochSampler(samples, 8, 0, 1, 7), 1), order_of(sampler, 1));
}

TEST(EpochSampler, WrongArgumentsAreErrors) {
  EXPECT_THROW(EpochSampler({.count = 2, .substitutes = {{2}}}, 1, 0, 1, 0), Error);
  EXPECT_THROW(EpochSampler({.count = 0}, 1, 0, 1, 0), Error);
  EXPECT_THROW(EpochSampler({.count = 1}, 0, 0, 1, 0), Error);
  EXPECT_THROW(EpochSampler({.count = 2, .kinds = {0}}, 1, 0, 1, 0), Error);
  EXPECT_THROW(EpochSampler({.count = 1}, 1, 1, 1, 0), Error);
  EXPECT_THROW(EpochSampler({.count = 4}, 2, 0, 1, 0).local_batch(0, 2), Error);
  EXPECT_THROW(EpochSampler({.count = 4}, 2, 0, 1, 0).local_batch(-1, 0), Error);
}

}  // namespace
}  // namespace filo
