// Which samples each rank takes at each step: deterministic in (seed, epoch, step), whatever the number of ranks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace filo {

// Epoch e is a permutation of [0, count) made from (seed, e) alone. Step s of it is the global batch
// permutation[s * B, min((s + 1) * B, count)); rank r takes a contiguous slice of that, in which ranks differ by at
// most one sample (earlier ranks take the one more). The last batch of an epoch may be partial, and then a rank may get
// 0 samples: it still takes part in the step's collectives, with a loss of zero samples.
//
// State is (epoch, step): a run that stopped continues at the same sample, also on another number of ranks. Gradients
// must be weighted by samples (sum over samples / global batch size), not averaged over ranks, for that to be the same
// training. Immutable apart from the cached permutation; not thread-safe.
class EpochSampler {
 public:
  // Throws Error when count or global_batch is 0, or rank is not in [0, world_size).
  EpochSampler(std::size_t count, std::size_t global_batch, int rank, int world_size, std::uint64_t seed);

  std::size_t steps_per_epoch() const { return (count_ + global_batch_ - 1) / global_batch_; }

  // All samples of (epoch, step) in order, over all ranks. Throws Error when step >= steps_per_epoch().
  std::vector<std::size_t> global_batch(std::int64_t epoch, std::size_t step) const;
  // This rank's slice of them.
  std::vector<std::size_t> local_batch(std::int64_t epoch, std::size_t step) const;
  // This rank's samples of the whole epoch from `first_step` on, step after step: what a Prefetcher is given.
  std::vector<std::size_t> local_order(std::int64_t epoch, std::size_t first_step = 0) const;

 private:
  const std::vector<std::size_t>& permutation(std::int64_t epoch) const;

  std::size_t count_, global_batch_;
  int rank_, world_size_;
  std::uint64_t seed_;
  mutable std::int64_t cached_epoch_ = -1;
  mutable std::vector<std::size_t> cached_;
};

}  // namespace filo
