// Gradients summed over the ranks in buckets, each started as soon as its gradients are there, so that the sums travel
// behind the rest of the backward pass.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "cluster/communicator.hpp"

namespace filo {

// One per model and phase, used again at every step: begin, then the backward pass adds up each gradient in data(i) and
// says mark_ready(i) (from autograd hooks, any thread, any order), then finish. Parameters are numbered in forward
// order; the last are expected ready first, and lie first in memory. A bucket is a piece of that memory, of the same
// size whatever lies in it: a large parameter has many.
//
// Buckets start in a fixed order on every rank even where gradients arrive in another: a bucket waits for those before
// it. Where the communicator needs it, a thread gives the sums progress between begin() and finish(): nobody else may
// use MPI meanwhile.
class GradientBuckets {
 public:
  // `sizes[i]`: elements of parameter i. `communicator` must outlive this. All ranks must give equal sizes,
  // bucket_bytes and wire. In a world of one nothing is sent.
  GradientBuckets(Communicator& communicator, std::vector<std::size_t> sizes, Wire wire = Wire::fp32,
                  std::size_t bucket_bytes = 4u << 20);
  ~GradientBuckets();
  GradientBuckets(const GradientBuckets&) = delete;
  GradientBuckets& operator=(const GradientBuckets&) = delete;

  void begin();  // all gradients are zeros

  // sizes[index] floats of the communicator's kind of memory, 64-byte aligned: this rank's gradient until it is ready,
  // the sum over the ranks from finish() to the next begin(). Throws Error for an index out of range.
  float* data(std::size_t index) const;

  // The gradient is whole: its buckets start when they are full. Thread-safe. Throws Error for an index out of range,
  // marked twice in a step, or outside of begin() and finish().
  void mark_ready(std::size_t index);

  // Waits until all sums are there. Collective. A gradient that was never marked counts as it is: zeros where a rank
  // had no sample, or the phase did not reach the parameter.
  void finish();

  double waited_s() const { return waited_s_; }  // of the last finish(): what the backward pass did not hide
  std::size_t bucket_count() const { return buckets_.size(); }

 private:
  struct Slot {
    std::size_t size = 0, offset = 0;  // elements
    bool ready = false;
  };
  struct Bucket {
    std::size_t waiting = 0;  // gradients not there yet
    std::size_t members = 0;
    Request request;
  };
  void expect_index(std::size_t index) const;
  template <typename Use>
  void each_bucket_of(const Slot& slot, const Use& use);
  void make_ready(Slot& slot);  // and starts what is full; mutex_ is held
  void give_progress(const std::stop_token& stop);

  Communicator& communicator_;
  Wire wire_;
  std::size_t bucket_elements_;
  std::vector<Slot> slots_;
  std::vector<Bucket> buckets_;
  std::size_t elements_ = 0;
  std::shared_ptr<float> memory_;
  std::size_t started_ = 0;  // buckets [0, started_) are under way or done
  std::size_t done_ = 0;     // buckets [0, done_) were seen to be done
  double waited_s_ = 0;

  std::mutex mutex_;
  std::condition_variable_any begun_;
  bool in_step_ = false;
  std::exception_ptr failure_;  // of the thread
  std::jthread progress_;       // last: it uses all of the above
};

}  // namespace filo
