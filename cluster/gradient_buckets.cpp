#include "cluster/gradient_buckets.hpp"

#include <algorithm>
#include <utility>

#include "base/error.hpp"

namespace filo {

GradientBuckets::GradientBuckets(Communicator& communicator, std::vector<std::size_t> sizes, std::size_t bucket_bytes)
    : communicator_(communicator), slots_(sizes.size()) {
  const std::size_t capacity = std::max<std::size_t>(bucket_bytes / sizeof(float), 1);
  for (std::size_t index = sizes.size(); index-- > 0;) {
    if (buckets_.empty() || buckets_.back().size + sizes[index] > capacity) buckets_.emplace_back();
    Bucket& bucket = buckets_.back();
    slots_[index] = {.size = sizes[index], .bucket = buckets_.size() - 1, .offset = bucket.size};
    bucket.size += sizes[index];
    ++bucket.members;
  }
  for (Bucket& bucket : buckets_) {
    bucket.data = communicator_.allocate(bucket.size);
    bucket.waiting = bucket.members;
  }
}

void GradientBuckets::mark_ready(std::size_t index, const float* gradient) {
  const std::lock_guard lock(mutex_);
  if (index >= slots_.size())
    throw Error("gradient buckets",
                "parameter " + std::to_string(index) + " found, expected below " + std::to_string(slots_.size()));
  if (finished_) {  // the next step begins
    finished_ = false;
    started_ = 0;
    for (Slot& slot : slots_) slot.ready = false;
    for (Bucket& bucket : buckets_) bucket.waiting = bucket.members;
  }
  Slot& slot = slots_[index];
  if (slot.ready)
    throw Error("gradient buckets", "parameter " + std::to_string(index) + " was marked ready twice in one step");
  Bucket& bucket = buckets_[slot.bucket];
  communicator_.copy(bucket.data.get() + slot.offset, gradient, slot.size);
  slot.ready = true;
  --bucket.waiting;
  start_full_buckets();
  for (std::size_t i = 0; i < started_; ++i) buckets_[i].request.test();
}

void GradientBuckets::start_full_buckets() {
  while (started_ < buckets_.size() && buckets_[started_].waiting == 0) {
    Bucket& bucket = buckets_[started_++];
    bucket.request = communicator_.start_all_reduce_sum(std::span(bucket.data.get(), bucket.size));
  }
}

void GradientBuckets::finish() {
  const std::lock_guard lock(mutex_);
  if (finished_) {  // a step in which nothing arrived at all
    for (Slot& slot : slots_) slot.ready = false;
    for (Bucket& bucket : buckets_) bucket.waiting = bucket.members;
    started_ = 0;
  }
  for (std::size_t index = 0; index < slots_.size(); ++index) {
    Slot& slot = slots_[index];
    if (slot.ready) continue;
    Bucket& bucket = buckets_[slot.bucket];
    communicator_.set_zero(bucket.data.get() + slot.offset, slot.size);
    slot.ready = true;
    --bucket.waiting;
  }
  start_full_buckets();
  for (Bucket& bucket : buckets_) bucket.request.wait();
  finished_ = true;
}

const float* GradientBuckets::reduced(std::size_t index) const {
  if (index >= slots_.size())
    throw Error("gradient buckets",
                "parameter " + std::to_string(index) + " found, expected below " + std::to_string(slots_.size()));
  if (!finished_) throw Error("gradient buckets", "reduced() was called before finish()");
  const Slot& slot = slots_[index];
  return buckets_[slot.bucket].data.get() + slot.offset;
}

}  // namespace filo
