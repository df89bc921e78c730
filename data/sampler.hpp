// Which samples each rank takes at each step: deterministic in (seed, epoch, step), whatever the number of ranks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace filo {

// What an epoch is made of.
struct Samples {
  std::size_t count = 0;
  // Of each sample, a number that those of one kind share. Empty: an epoch takes each sample once. Else it takes as
  // many samples, of each kind as many as of any other to one: those of a rare kind several times, of a frequent one
  // some.
  std::vector<std::size_t> kinds{};
  // Likewise: a batch is of one group where the group has enough samples, and what is left over comes last. Empty:
  // mixed.
  std::vector<std::size_t> groups{};
  // Of each sample, those that may take its place, numbers from `count` on; none of some, or of all where it is empty.
  // In `substitution` of an epoch's places (0 to 1) stands one of them, drawn anew each epoch.
  std::vector<std::vector<std::size_t>> substitutes{};
  double substitution = 0;
};

// Pieces of at most `most` values, in their order.
std::vector<std::vector<std::size_t>> pieces_of(const std::vector<std::size_t>& values, std::size_t most);

// The order of epoch e is made from (seed, e) alone. Step s of it is the global batch order[s * B, min((s + 1) * B,
// count)); rank r takes a contiguous slice of that, in which ranks differ by at most one sample (earlier ranks take the
// one more). The last batch of an epoch may be partial, and then a rank may get 0 samples: it still takes part in the
// step's collectives, with a loss of zero samples.
//
// State is (epoch, step): a run that stopped continues at the same sample, also on another number of ranks. Gradients
// must be weighted by samples (sum over samples / global batch size), not averaged over ranks, for that to be the same
// training. Immutable apart from the cached order; not thread-safe.
class EpochSampler {
 public:
  // Throws Error when count or global_batch is 0, kinds, groups or substitutes are of another number of samples, or
  // rank is not in [0, world_size).
  EpochSampler(Samples samples, std::size_t global_batch, int rank, int world_size, std::uint64_t seed);

  std::size_t steps_per_epoch() const { return (samples_.count + global_batch_ - 1) / global_batch_; }

  // All samples of (epoch, step) in order, over all ranks. Throws Error when step >= steps_per_epoch().
  std::vector<std::size_t> global_batch(std::int64_t epoch, std::size_t step) const;
  // This rank's slice of them.
  std::vector<std::size_t> local_batch(std::int64_t epoch, std::size_t step) const;

 private:
  const std::vector<std::size_t>& order(std::int64_t epoch) const;

  Samples samples_;
  std::size_t global_batch_;
  int rank_, world_size_;
  std::uint64_t seed_;
  mutable std::int64_t cached_epoch_ = -1;
  mutable std::vector<std::size_t> cached_;
};

}  // namespace filo
