// Gradients summed over the ranks in buckets, each started as soon as its gradients are there, so that the sums travel
// behind the rest of the backward pass.
#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

#include "cluster/communicator.hpp"

namespace filo {

// One per model and phase, used again at every step: mark_ready for each parameter (from autograd hooks, any thread,
// any order), then finish, then reduced. Parameters are numbered in forward order; the last are expected ready first,
// so buckets are filled from the end. All ranks must give equal sizes and bucket_bytes.
//
// Buckets start in a fixed order on every rank even where gradients arrive in another: a bucket waits for those before
// it.
class GradientBuckets {
 public:
  // `sizes[i]`: elements of parameter i. `communicator` must outlive this. A parameter larger than `bucket_bytes` gets
  // a bucket of its own.
  GradientBuckets(Communicator& communicator, std::vector<std::size_t> sizes, std::size_t bucket_bytes = 4u << 20);

  // Copies the gradient (sizes[index] floats, memory of the communicator's kind) and starts its bucket when that is
  // full. Thread-safe. Throws Error for an index out of range or marked twice in a step.
  void mark_ready(std::size_t index, const float* gradient);

  // Waits until all sums are there. Collective. A gradient that never arrived here counts as zeros: a rank may have had
  // no sample, and a phase need not reach every parameter.
  void finish();

  // The sum of parameter `index`, valid from finish() to the next mark_ready().
  const float* reduced(std::size_t index) const;

  std::size_t bucket_count() const { return buckets_.size(); }

 private:
  struct Slot {
    std::size_t size = 0;
    std::size_t bucket = 0;
    std::size_t offset = 0;  // elements into the bucket
    bool ready = false;
  };
  struct Bucket {
    std::shared_ptr<float> data;
    std::size_t size = 0;     // elements
    std::size_t waiting = 0;  // gradients not there yet
    std::size_t members = 0;
    Request request;
  };
  void start_full_buckets();

  Communicator& communicator_;
  std::vector<Slot> slots_;
  std::vector<Bucket> buckets_;
  std::size_t started_ = 0;  // buckets [0, started_) are under way or done
  bool finished_ = false;
  std::mutex mutex_;
};

}  // namespace filo
