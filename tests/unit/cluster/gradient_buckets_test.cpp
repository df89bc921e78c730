#include "cluster/gradient_buckets.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <thread>

#include "base/error.hpp"
#include "base/random.hpp"

namespace filo::test {
extern Communicator* world;
namespace {

const std::vector<std::size_t> sizes = {5, 1000, 1, 70000, 300, 0, 12};

std::vector<float> gradient(int rank, std::size_t index, int step) {
  std::vector<float> values(sizes[index]);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(rank + 1) * static_cast<float>(i % 97 + index) + static_cast<float>(step);
  return values;
}

// As a backward pass does: adds to what is there, then says so.
void arrive(GradientBuckets& buckets, std::size_t index, int step) {
  const auto values = gradient(world->rank(), index, step);
  for (std::size_t i = 0; i < values.size(); ++i) buckets.data(index)[i] += values[i];
  buckets.mark_ready(index);
}

void expect_sums(const GradientBuckets& buckets, int step) {
  for (std::size_t index = 0; index < sizes.size(); ++index) {
    std::vector<float> sum(sizes[index]);
    for (int rank = 0; rank < world->world_size(); ++rank) {
      const auto values = gradient(rank, index, step);
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
    }
    const float* reduced = buckets.data(index);
    for (std::size_t i = 0; i < sum.size(); ++i) ASSERT_EQ(reduced[i], sum[i]) << index << " " << i;
  }
}

// Guards against ranks that wait for each other's buckets: each rank's gradients arrive in an order of its own, step
// after step.
TEST(GradientBuckets, AnyOrderOfArrivalOnEachRank) {
  GradientBuckets buckets(*world, sizes, Wire::fp32, 4096);
  if (world->world_size() > 1) {
    EXPECT_GT(buckets.bucket_count(), 70000u * 4 / 4096) << "a large parameter has many";
  }
  for (int step = 0; step < 5; ++step) {
    std::vector<std::size_t> order(sizes.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    Random random(3, "order", static_cast<std::uint64_t>(10 * step + world->rank()));
    for (std::size_t i = order.size(); i-- > 1;) std::swap(order[i], order[random.below(i + 1)]);
    buckets.begin();
    for (const std::size_t index : order) arrive(buckets, index, step);
    buckets.finish();
    expect_sums(buckets, step);
  }
}

// Guards the lock: autograd calls hooks from several threads at once.
TEST(GradientBuckets, MarkedFromSeveralThreads) {
  GradientBuckets buckets(*world, sizes, Wire::fp32, 1024);
  buckets.begin();
  std::vector<std::thread> threads;
  for (std::size_t index = 0; index < sizes.size(); ++index)
    threads.emplace_back([&, index] { arrive(buckets, index, 0); });
  for (auto& thread : threads) thread.join();
  buckets.finish();
  expect_sums(buckets, 0);
}

// Guards training from going on with a gradient of the step before.
TEST(GradientBuckets, AGradientThatNeverArrivesIsZeros) {
  GradientBuckets buckets(*world, {2, 3}, Wire::fp32, 8);
  buckets.begin();
  buckets.data(1)[2] = NAN;
  buckets.mark_ready(1);
  buckets.data(0)[1] = 2;
  buckets.mark_ready(0);
  buckets.finish();
  buckets.begin();
  buckets.data(0)[1] = 2;
  buckets.mark_ready(0);
  buckets.finish();
  EXPECT_EQ(buckets.data(0)[1], 2.0f * static_cast<float>(world->world_size()));
  EXPECT_EQ(buckets.data(1)[2], 0);
  buckets.begin();
  buckets.finish();  // a step without any
  EXPECT_EQ(buckets.data(0)[0], 0);
}

// Guards sums that travel as bfloat16: each rank's values are rounded, added in float32, and rounded again; all ranks
// have the same bits.
TEST(GradientBuckets, SumsThatTravelAsBfloat16) {
  const auto rounded = [](float value) {  // to nearest, ties to even, by arithmetic
    const float scale = std::exp2(std::floor(std::log2(std::abs(value))) - 7);
    return value == 0 ? 0 : std::nearbyint(value / scale) * scale;
  };
  GradientBuckets buckets(*world, sizes, Wire::bf16, 4096);
  buckets.begin();
  for (std::size_t index = 0; index < sizes.size(); ++index) arrive(buckets, index, 1);
  buckets.finish();
  std::string mine;
  for (std::size_t index = 0; index < sizes.size(); ++index)
    for (std::size_t i = 0; i < sizes[index]; ++i) {
      float sum = 0;
      for (int rank = 0; rank < world->world_size(); ++rank) {
        const float value = gradient(rank, index, 1)[i];
        sum += world->world_size() == 1 ? value : rounded(value);
      }
      const float found = buckets.data(index)[i];
      ASSERT_EQ(found, world->world_size() == 1 ? sum : rounded(sum)) << index << " " << i;
      mine.append(reinterpret_cast<const char*>(&found), sizeof found);
      if (i > 2000) break;  // the reference is slow
    }
  for (const std::string& other : world->gather_bytes(mine)) EXPECT_TRUE(other == mine);
}

TEST(GradientBuckets, WrongUseIsAnError) {
  GradientBuckets buckets(*world, {2, 3});
  EXPECT_THROW(buckets.finish(), Error);
  EXPECT_THROW(buckets.mark_ready(0), Error);
  buckets.begin();
  EXPECT_THROW(buckets.data(2), Error);
  EXPECT_THROW(buckets.mark_ready(2), Error);
  buckets.mark_ready(1);
  EXPECT_THROW(buckets.mark_ready(1), Error);
  buckets.mark_ready(0);
  buckets.finish();
}

}  // namespace
}  // namespace filo::test
