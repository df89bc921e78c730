#include "data/sampler.hpp"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "base/error.hpp"
#include "base/random.hpp"

namespace filo {

EpochSampler::EpochSampler(std::size_t count, std::size_t global_batch, int rank, int world_size, std::uint64_t seed)
    : count_(count), global_batch_(global_batch), rank_(rank), world_size_(world_size), seed_(seed) {
  if (count == 0) throw Error("sampler", "no samples found, expected at least 1");
  if (global_batch == 0) throw Error("sampler", "batch size found: 0, expected at least 1");
  if (rank < 0 || rank >= world_size)
    throw Error("sampler", "rank found: " + std::to_string(rank) + ", expected 0 to " + std::to_string(world_size - 1));
}

const std::vector<std::size_t>& EpochSampler::permutation(std::int64_t epoch) const {
  if (epoch < 0) throw Error("sampler", "epoch found: " + std::to_string(epoch) + ", expected 0 or more");
  if (epoch != cached_epoch_) {
    cached_.resize(count_);
    std::iota(cached_.begin(), cached_.end(), std::size_t{0});
    Random random(seed_, "sampler", static_cast<std::uint64_t>(epoch));
    for (std::size_t i = count_; i-- > 1;) std::swap(cached_[i], cached_[random.below(i + 1)]);  // Fisher-Yates
    cached_epoch_ = epoch;
  }
  return cached_;
}

std::vector<std::size_t> EpochSampler::global_batch(std::int64_t epoch, std::size_t step) const {
  if (step >= steps_per_epoch())
    throw Error("sampler",
                "step found: " + std::to_string(step) + ", expected 0 to " + std::to_string(steps_per_epoch() - 1));
  const auto& order = permutation(epoch);
  const std::size_t begin = step * global_batch_, end = std::min(begin + global_batch_, count_);
  return {order.begin() + static_cast<std::ptrdiff_t>(begin), order.begin() + static_cast<std::ptrdiff_t>(end)};
}

std::vector<std::size_t> EpochSampler::local_batch(std::int64_t epoch, std::size_t step) const {
  const auto batch = global_batch(epoch, step);
  const std::size_t world = static_cast<std::size_t>(world_size_);
  const auto begin_of = [&](std::size_t rank) {
    return static_cast<std::ptrdiff_t>(batch.size() / world * rank + std::min(rank, batch.size() % world));
  };
  const std::size_t rank = static_cast<std::size_t>(rank_);
  return {batch.begin() + begin_of(rank), batch.begin() + begin_of(rank + 1)};
}

std::vector<std::size_t> EpochSampler::local_order(std::int64_t epoch, std::size_t first_step) const {
  std::vector<std::size_t> order;
  for (std::size_t step = first_step; step < steps_per_epoch(); ++step) {
    const auto batch = local_batch(epoch, step);
    order.insert(order.end(), batch.begin(), batch.end());
  }
  return order;
}

}  // namespace filo
