#include "data/sampler.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "base/error.hpp"

namespace filo {
namespace {

std::vector<std::size_t> over_all_ranks(std::size_t count, std::size_t batch, int world, std::int64_t epoch,
                                        std::size_t step) {
  std::vector<std::size_t> all;
  for (int rank = 0; rank < world; ++rank) {
    const auto local = EpochSampler(count, batch, rank, world, 7).local_batch(epoch, step);
    all.insert(all.end(), local.begin(), local.end());
  }
  return all;
}

// Guards resuming on another number of ranks: the samples of a step are the same, in the same order, for any world
// size.
TEST(EpochSampler, AStepIsTheSameOnAnyNumberOfRanks) {
  const EpochSampler alone(53, 8, 0, 1, 7);
  for (std::int64_t epoch = 0; epoch < 3; ++epoch)
    for (std::size_t step = 0; step < alone.steps_per_epoch(); ++step)
      for (const int world : {2, 3, 8, 11})
        EXPECT_EQ(over_all_ranks(53, 8, world, epoch, step), alone.global_batch(epoch, step)) << world;
}

TEST(EpochSampler, AnEpochTakesEachSampleOnceInAnOrderOfItsOwn) {
  const EpochSampler sampler(53, 8, 0, 1, 7);
  EXPECT_EQ(sampler.steps_per_epoch(), 7u);
  auto first = sampler.local_order(0), second = sampler.local_order(1);
  EXPECT_NE(first, second);
  EXPECT_NE(first, EpochSampler(53, 8, 0, 1, 8).local_order(0));
  EXPECT_EQ(sampler.local_order(0), first);  // and again the same
  std::sort(first.begin(), first.end());
  std::vector<std::size_t> all(53);
  std::iota(all.begin(), all.end(), std::size_t{0});
  EXPECT_EQ(first, all);
  EXPECT_EQ(sampler.global_batch(0, 6).size(), 5u);  // the last partial batch is kept
}

// Guards balance, and that the small last batch leaves some ranks without samples rather than with repeated ones.
TEST(EpochSampler, SlicesDifferByOneAndMayBeEmpty) {
  for (int rank = 0; rank < 4; ++rank) {
    const EpochSampler sampler(10, 8, rank, 4, 1);
    EXPECT_EQ(sampler.local_batch(0, 0).size(), 2u);
    EXPECT_EQ(sampler.local_batch(0, 1).size(), rank < 2 ? 1u : 0u);
  }
}

TEST(EpochSampler, OrderFromAStepOnIsTheRestOfTheEpoch) {
  const EpochSampler sampler(20, 6, 1, 2, 3);
  const auto whole = sampler.local_order(4);
  const auto rest = sampler.local_order(4, 2);
  EXPECT_EQ(rest, std::vector<std::size_t>(whole.begin() + 6, whole.end()));
}

TEST(EpochSampler, WrongArgumentsAreErrors) {
  EXPECT_THROW(EpochSampler(0, 1, 0, 1, 0), Error);
  EXPECT_THROW(EpochSampler(1, 0, 0, 1, 0), Error);
  EXPECT_THROW(EpochSampler(1, 1, 1, 1, 0), Error);
  EXPECT_THROW(EpochSampler(4, 2, 0, 1, 0).local_batch(0, 2), Error);
  EXPECT_THROW(EpochSampler(4, 2, 0, 1, 0).local_batch(-1, 0), Error);
}

}  // namespace
}  // namespace filo
