// Batches of a feature cache, read ahead by threads of its own while the last one is computed with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "data/shards/shard_reader.hpp"

namespace filo {

inline constexpr std::uint64_t default_prefetch_bytes = std::uint64_t{1} << 30;

struct PrefetchOptions {
  Parts parts{};
  // The most that batches which are read, or being read, take together; one is always read.
  std::uint64_t bytes = default_prefetch_bytes;
  int threads = 2;
  Allocate allocate = allocate_aligned;
};

// next() from one thread.
class Prefetcher {
 public:
  // `batches`: of samples' indices, in the order in which next() gives them. `reader` must outlive this; blocks may
  // outlive both.
  Prefetcher(const ShardReader& reader, std::vector<std::vector<std::size_t>> batches, PrefetchOptions options = {});
  ~Prefetcher();  // stops reading
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // The next batch, nullopt after the last. Throws what reading it threw.
  std::optional<FeatureBlock> next();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace filo
