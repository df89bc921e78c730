#include "cluster/gradient_buckets.hpp"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "base/error.hpp"

namespace filo {
namespace {

constexpr std::size_t alignment = 16;  // floats
constexpr std::chrono::microseconds between_looks{500};

}  // namespace

GradientBuckets::GradientBuckets(Communicator& communicator, std::vector<std::size_t> sizes, Wire wire,
                                 std::size_t bucket_bytes)
    : communicator_(communicator),
      wire_(wire),
      bucket_elements_(std::max<std::size_t>(bucket_bytes / sizeof(float), 1)),
      slots_(sizes.size()) {
  for (std::size_t index = sizes.size(); index-- > 0;) {
    slots_[index] = {.size = sizes[index], .offset = elements_};
    elements_ += (sizes[index] + alignment - 1) / alignment * alignment;
  }
  memory_ = communicator_.allocate(elements_);
  if (communicator_.world_size() == 1) return;
  buckets_.resize((elements_ + bucket_elements_ - 1) / bucket_elements_);
  for (const Slot& slot : slots_) each_bucket_of(slot, [](Bucket& bucket) { ++bucket.members; });
  if (communicator_.needs_progress())
    progress_ = std::jthread([this](const std::stop_token& stop) { give_progress(stop); });
}

GradientBuckets::~GradientBuckets() = default;

template <typename Use>
void GradientBuckets::each_bucket_of(const Slot& slot, const Use& use) {
  if (slot.size == 0 || buckets_.empty()) return;
  const std::size_t last = (slot.offset + slot.size - 1) / bucket_elements_;
  for (std::size_t i = slot.offset / bucket_elements_; i <= last; ++i) use(buckets_[i]);
}

void GradientBuckets::expect_index(std::size_t index) const {
  if (index >= slots_.size())
    throw Error("gradient buckets",
                "parameter " + std::to_string(index) + " found, expected below " + std::to_string(slots_.size()));
}

float* GradientBuckets::data(std::size_t index) const {
  expect_index(index);
  return memory_.get() + slots_[index].offset;
}

void GradientBuckets::begin() {
  const std::lock_guard lock(mutex_);
  communicator_.set_zero(memory_.get(), elements_);
  for (Slot& slot : slots_) slot.ready = false;
  for (Bucket& bucket : buckets_) bucket.waiting = bucket.members;
  started_ = done_ = 0;
  in_step_ = true;
  begun_.notify_all();
}

void GradientBuckets::mark_ready(std::size_t index) {
  const std::lock_guard lock(mutex_);
  expect_index(index);
  Slot& slot = slots_[index];
  if (!in_step_)
    throw Error("gradient buckets", "parameter " + std::to_string(index) + " was marked ready outside of a step");
  if (slot.ready)
    throw Error("gradient buckets", "parameter " + std::to_string(index) + " was marked ready twice in one step");
  make_ready(slot);
}

void GradientBuckets::make_ready(Slot& slot) {
  slot.ready = true;
  each_bucket_of(slot, [](Bucket& bucket) { --bucket.waiting; });
  for (; started_ < buckets_.size() && buckets_[started_].waiting == 0; ++started_) {
    const std::size_t first = started_ * bucket_elements_;
    buckets_[started_].request = communicator_.start_all_reduce_sum(
        std::span(memory_.get() + first, std::min(bucket_elements_, elements_ - first)), wire_);
  }
}

void GradientBuckets::finish() {
  const std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  if (!in_step_) throw Error("gradient buckets", "finish() was called before begin()");
  for (Slot& slot : slots_)
    if (!slot.ready) make_ready(slot);
  in_step_ = false;
  const auto before = std::chrono::steady_clock::now();
  for (Bucket& bucket : buckets_) bucket.request.wait();
  waited_s_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count();
}

// MPI moves data only inside its calls, and the longest part of a backward pass (a text tower's) makes none.
void GradientBuckets::give_progress(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    {
      std::unique_lock lock(mutex_);
      if (!begun_.wait(lock, stop, [&] { return in_step_; })) return;
      try {
        while (done_ < started_ && buckets_[done_].request.test()) ++done_;
        for (std::size_t i = done_; i < started_; ++i) buckets_[i].request.test();
      } catch (...) {
        failure_ = std::current_exception();
        in_step_ = false;
      }
    }
    std::this_thread::sleep_for(between_looks);
  }
}

}  // namespace filo
