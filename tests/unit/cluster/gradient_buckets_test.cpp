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

void expect_sums(const GradientBuckets& buckets, int step) {
  for (std::size_t index = 0; index < sizes.size(); ++index) {
    std::vector<float> sum(sizes[index]);
    for (int rank = 0; rank < world->world_size(); ++rank) {
      const auto values = gradient(rank, index, step);
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
    }
    const float* reduced = buckets.reduced(index);
    for (std::size_t i = 0; i < sum.size(); ++i) ASSERT_EQ(reduced[i], sum[i]) << index << " " << i;
  }
}

// Guards against ranks that wait for each other's buckets: each rank's gradients arrive in an order of its own, step
// after step.
TEST(GradientBuckets, AnyOrderOfArrivalOnEachRank) {
  GradientBuckets buckets(*world, sizes, 4096);
  EXPECT_GT(buckets.bucket_count(), 2u);
  for (int step = 0; step < 5; ++step) {
    std::vector<std::size_t> order(sizes.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    Random random(3, "order", static_cast<std::uint64_t>(10 * step + world->rank()));
    for (std::size_t i = order.size(); i-- > 1;) std::swap(order[i], order[random.below(i + 1)]);
    for (const std::size_t index : order) buckets.mark_ready(index, gradient(world->rank(), index, step).data());
    buckets.finish();
    expect_sums(buckets, step);
  }
}

// Guards the lock: autograd calls hooks from several threads at once.
TEST(GradientBuckets, MarkedFromSeveralThreads) {
  GradientBuckets buckets(*world, sizes, 1024);
  std::vector<std::thread> threads;
  for (std::size_t index = 0; index < sizes.size(); ++index)
    threads.emplace_back([&, index] { buckets.mark_ready(index, gradient(world->rank(), index, 0).data()); });
  for (auto& thread : threads) thread.join();
  buckets.finish();
  expect_sums(buckets, 0);
}

// Guards training from going on with a gradient of the step before.
TEST(GradientBuckets, AGradientThatNeverArrivesIsZeros) {
  GradientBuckets buckets(*world, {2, 3}, 8);
  const float nan[3] = {NAN, NAN, NAN}, two[2] = {2, 2};
  buckets.mark_ready(1, nan);
  buckets.mark_ready(0, two);
  buckets.finish();
  buckets.mark_ready(0, two);
  buckets.finish();
  EXPECT_EQ(buckets.reduced(0)[1], 2.0f * static_cast<float>(world->world_size()));
  EXPECT_EQ(buckets.reduced(1)[2], 0);
  buckets.finish();  // a step without any
  EXPECT_EQ(buckets.reduced(0)[0], 0);
}

TEST(GradientBuckets, WrongUseIsAnError) {
  GradientBuckets buckets(*world, {2, 3});
  const float values[3] = {1, 2, 3};
  EXPECT_THROW(buckets.reduced(0), Error);
  EXPECT_THROW(buckets.mark_ready(2, values), Error);
  buckets.mark_ready(1, values);
  EXPECT_THROW(buckets.mark_ready(1, values), Error);
  EXPECT_THROW(buckets.reduced(0), Error);
  buckets.mark_ready(0, values);
  buckets.finish();
}

}  // namespace
}  // namespace filo::test
