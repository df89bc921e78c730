#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "base/error.hpp"
#include "base/random.hpp"
#include "cluster/agreement.hpp"
#include "cluster/communicator.hpp"

namespace filo::test {
extern Communicator* world;
namespace {

std::vector<float> values_of(int rank, std::size_t count) {
  Random random(17, "values", static_cast<std::uint64_t>(rank));
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.normal() * std::pow(10.0, random.uniform(-6, 6)));
  return values;
}

std::vector<float> sum_in_rank_order(std::size_t count) {
  std::vector<float> sum = values_of(0, count);
  for (int rank = 1; rank < world->world_size(); ++rank) {
    const auto addend = values_of(rank, count);
    for (std::size_t i = 0; i < count; ++i) sum[i] += addend[i];
  }
  return sum;
}

// Guards determinism: the sum is bit for bit the one taken in rank order, on every rank, for counts around the rank
// count.
TEST(MpiCommunicator, SumIsTakenInRankOrder) {
  for (const std::size_t count : {0u, 1u, 2u, 3u, 7u, 1000u, 300007u}) {
    auto data = values_of(world->rank(), count);
    world->all_reduce_sum(data.data(), count);
    const auto expected = sum_in_rank_order(count);
    for (std::size_t i = 0; i < count; ++i)
      ASSERT_EQ(std::bit_cast<std::uint32_t>(data[i]), std::bit_cast<std::uint32_t>(expected[i])) << i << "/" << count;
  }
}

// Guards the sums' messages from mixing when several are under way and waited for in another order.
TEST(MpiCommunicator, ManySumsUnderWayDoNotMix) {
  std::vector<std::vector<float>> data;
  std::vector<Request> requests;
  for (std::size_t i = 0; i < 20; ++i) data.push_back(values_of(world->rank(), 1000 * i + 5));
  for (auto& buffer : data) requests.push_back(world->start_all_reduce_sum(buffer));
  for (std::size_t i = 20; i-- > 0;) {
    requests[i].wait();
    EXPECT_EQ(data[i], sum_in_rank_order(data[i].size())) << i;
  }
}

// Guards that test() alone finishes a sum, so that overlap needs no wait().
TEST(MpiCommunicator, TestMakesProgressToTheEnd) {
  auto data = values_of(world->rank(), 100000);
  Request request = world->start_all_reduce_sum(data);
  while (!request.test()) {
  }
  EXPECT_EQ(data, sum_in_rank_order(data.size()));
}

// Guards the tag counter's wrap-around (16000 sums).
TEST(MpiCommunicator, MoreSumsThanTags) {
  for (int i = 0; i < 16010; ++i) {
    double one = 1;
    world->all_reduce_sum(&one, 1);
    ASSERT_EQ(one, world->world_size());
  }
}

TEST(MpiCommunicator, MaxBroadcastAndGather) {
  std::int64_t numbers[2] = {world->rank() * (std::int64_t{1} << 40), -world->rank()};
  world->all_reduce_max(numbers, 2);
  EXPECT_EQ(numbers[0], (world->world_size() - 1) * (std::int64_t{1} << 40));
  EXPECT_EQ(numbers[1], 0);

  const int root = world->world_size() - 1;
  int value = world->rank() == root ? 42 : 0;
  world->broadcast(&value, sizeof value, root);
  EXPECT_EQ(value, 42);

  const auto gathered = world->gather_bytes(std::string(static_cast<std::size_t>(world->rank()) * 100000, 'x'), root);
  if (world->rank() == root) {
    ASSERT_EQ(gathered.size(), static_cast<std::size_t>(world->world_size()));
    for (std::size_t rank = 0; rank < gathered.size(); ++rank) EXPECT_EQ(gathered[rank].size(), rank * 100000);
  } else {
    EXPECT_TRUE(gathered.empty());
  }
  EXPECT_THROW(world->broadcast(&value, sizeof value, world->world_size()), Error);
  world->barrier();
}

// Guards preemption: one rank's signal stops all of them, at the same step.
TEST(Agreement, OneSignalledRankStopsAll) {
  EXPECT_EQ(agree_stop(*world, 0), 0);
  const int last = world->world_size() - 1;
  EXPECT_EQ(agree_stop(*world, world->rank() == last ? 15 : 0), 15);
}

}  // namespace
}  // namespace filo::test
