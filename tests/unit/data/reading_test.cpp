#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <cmath>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "data/shards/prefetcher.hpp"
#include "tests/unit/data/shard_fixture.hpp"

namespace filo {
namespace {

class ReadingTest : public ShardTest {};

// Guards data sets of any size where a process may have few files open: 70,000 samples in 1,094 shards.
TEST_F(ReadingTest, ManyShardsNeedFewDescriptors) {
  constexpr std::size_t samples = 70'000;
  const FeatureLayout tiny{
      .global_size = 2, .patches = 1, .width = 1, .qkv_layers = {1}, .vv_layers = {}, .mask_size = 1};
  FeatureSample sample;
  sample.class_name = "bottle";
  sample.mask = {1};
  std::vector<std::string> images;
  ShardWriter writer(folder, tiny, key, "0", std::uint64_t{64} * 11);
  for (std::size_t i = 0; i < samples; ++i) {
    images.push_back(std::to_string(i));
    sample.image = images.back();
    sample.global = {static_cast<float>(i), std::floor(static_cast<float>(i) / 2)};
    sample.qkv[1].values = {static_cast<std::byte>(i), static_cast<std::byte>(i >> 8)};
    writer.append(sample);
  }
  writer.close();
  EXPECT_EQ(writer.finished().size(), 1094u);

  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  const rlimit few{256, before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &few);
  finish_features(folder, tiny, key, images, writer.finished());
  const ShardReader reader(folder);
  ASSERT_EQ(reader.size(), samples);
  std::vector<std::vector<std::size_t>> batches;
  for (std::size_t i = 0; i < samples; i += 4) batches.push_back({i * 7919 % samples, (i + 1) * 7919 % samples});
  Prefetcher prefetcher(reader, batches, {.threads = 3});
  for (const auto& batch : batches) {
    const FeatureBlock block = prefetcher.next().value();
    for (std::size_t i = 0; i < batch.size(); ++i) {
      ASSERT_EQ(block.global()[2 * i], static_cast<float>(batch[i]));
      ASSERT_EQ(block.map(false, 1)[2 * i], static_cast<std::byte>(batch[i]));
    }
  }
  setrlimit(RLIMIT_NOFILE, &before);
}

// Guards the prefetcher: the batches asked for, in their order, whatever the threads and the memory; a bad batch throws
// at its turn and the next ones come.
TEST_F(ReadingTest, PrefetcherKeepsTheOrder) {
  write_finished(7);
  const ShardReader reader(folder);
  std::vector<std::vector<std::size_t>> batches;
  for (std::size_t i = 0; i < 60; ++i) {
    batches.emplace_back();
    for (std::size_t j = 0; j < i % 4; ++j) batches.back().push_back((i * i + j) % 7);
  }
  for (const int threads : {1, 3})
    for (const std::uint64_t bytes : {std::uint64_t{1}, 5 * sample_bytes, default_prefetch_bytes}) {
      Prefetcher prefetcher(reader, batches, {.bytes = bytes, .threads = threads});
      for (const auto& batch : batches) {
        const FeatureBlock block = prefetcher.next().value();
        ASSERT_EQ(block.size(), batch.size());
        for (std::size_t i = 0; i < batch.size(); ++i) expect_equal(block, i, sample_of(batch[i]));
      }
      EXPECT_FALSE(prefetcher.next());
    }
  Prefetcher stopped_early(reader, batches, {.threads = 2});
  stopped_early.next();

  Prefetcher with_error(reader, {{1}, {99}, {2, 2}}, {.threads = 2});
  EXPECT_EQ(with_error.next()->samples()[0].image, sample_of(1).image);
  EXPECT_THROW(with_error.next(), Error);
  EXPECT_EQ(with_error.next()->samples()[1].image, sample_of(2).image);
  EXPECT_FALSE(with_error.next());
}

// Guards a reader's memory: batches ahead take no more than was allowed, and a block outlives its prefetcher.
TEST_F(ReadingTest, PrefetcherStaysWithinItsMemory) {
  write_finished(7);
  const ShardReader reader(folder);
  std::atomic<std::size_t> taken{0}, most{0};
  const Allocate counted = [&](std::size_t bytes) {
    most = std::max<std::size_t>(most, taken += bytes);
    const auto memory = allocate_aligned(bytes);
    return std::shared_ptr<std::byte>(memory.get(), [&taken, bytes, memory](std::byte*) { taken -= bytes; });
  };
  std::optional<FeatureBlock> last;
  {
    Prefetcher prefetcher(reader, std::vector<std::vector<std::size_t>>(30, {0, 1, 2}),
                          {.bytes = 7 * sample_bytes, .threads = 2, .allocate = counted});
    for (std::size_t i = 0; i < 30; ++i) last = prefetcher.next();
  }
  EXPECT_LE(most, std::size_t{15} * (sample_bytes + 512));  // two ahead, one in use, two kept for the next
  expect_equal(*last, 2, sample_of(2));
  last.reset();
  EXPECT_EQ(taken, 0u);
}

TEST_F(ReadingTest, ManyThreadsRead) {
  write_finished(7);
  const ShardReader reader(folder, ShardReader::Verify::always);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (std::size_t i = 0; i < 70; ++i) expect_equal(reader.read(i % 7), sample_of(i % 7));
    });
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace filo
