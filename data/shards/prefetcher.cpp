#include "data/shards/prefetcher.hpp"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "base/signals.hpp"

namespace filo {
namespace {

// Memory that a batch gives back is the next one's: pages that were touched already cost nothing.
class Memories : public std::enable_shared_from_this<Memories> {
 public:
  explicit Memories(Allocate allocate) : allocate_(std::move(allocate)) {}

  std::shared_ptr<std::byte> take(std::size_t bytes) {
    std::shared_ptr<std::byte> memory;
    {
      const std::lock_guard held(mutex_);
      const auto found = std::ranges::find(free_, bytes, &std::pair<std::size_t, std::shared_ptr<std::byte>>::first);
      if (found != free_.end()) {
        memory = std::move(found->second);
        free_.erase(found);
      }
    }
    if (!memory) memory = allocate_(bytes);
    std::byte* const pointer = memory.get();
    return {pointer, [pool = weak_from_this(), bytes, memory = std::move(memory)](std::byte*) mutable {
              if (const auto alive = pool.lock()) alive->give_back(bytes, std::move(memory));
            }};
  }

 private:
  static constexpr std::size_t most_kept = 2;

  void give_back(std::size_t bytes, std::shared_ptr<std::byte> memory) {
    const std::lock_guard held(mutex_);
    if (free_.size() == most_kept) free_.pop_front();
    free_.emplace_back(bytes, std::move(memory));
  }

  Allocate allocate_;
  std::mutex mutex_;
  std::deque<std::pair<std::size_t, std::shared_ptr<std::byte>>> free_;
};

}  // namespace

struct Prefetcher::State {
  struct Batch {
    FeatureBlock block;
    std::size_t claimed = 0;  // samples that are read or being read
    std::size_t read = 0;
    std::exception_ptr error;
  };

  const ShardReader& reader;
  const std::vector<std::vector<std::size_t>> batches;
  const PrefetchOptions options;
  const std::uint64_t bytes_per_sample;
  const std::shared_ptr<Memories> memories;

  std::mutex mutex;
  std::condition_variable changed;
  std::size_t begun = 0;     // [0, begun) of the batches have memory, and some of them samples that nobody has claimed
  std::size_t consumed = 0;  // [0, consumed) were given out
  std::map<std::size_t, Batch> ahead;
  bool stopping = false;
  std::vector<std::thread> threads;

  State(const ShardReader& source, std::vector<std::vector<std::size_t>> wanted, PrefetchOptions how)
      : reader(source),
        batches(std::move(wanted)),
        options(std::move(how)),
        bytes_per_sample(source.bytes_per_sample(options.parts)),
        memories(std::make_shared<Memories>(options.allocate)) {}

  std::uint64_t bytes_of(std::size_t batch) const { return batches[batch].size() * bytes_per_sample; }

  // Under the lock.
  bool has_room() const {
    std::uint64_t taken = 0;
    for (const auto& [number, batch] : ahead) taken += bytes_of(number);
    return ahead.empty() || taken + bytes_of(begun) <= options.bytes;
  }
  // The first batch with a sample that nobody reads yet, begun where there is room; else null.
  std::pair<const std::size_t, Batch>* next_to_read() {
    for (auto& entry : ahead)
      if (!entry.second.error && entry.second.claimed < batches[entry.first].size()) return &entry;
    if (begun == batches.size() || !has_room()) return nullptr;
    auto& entry = *ahead.emplace(begun, Batch()).first;
    try {
      entry.second.block =
          reader.make_block(batches[begun], options.parts, [this](std::size_t bytes) { return memories->take(bytes); });
    } catch (...) {
      entry.second.error = std::current_exception();
    }
    ++begun;
    changed.notify_all();
    return entry.second.error || batches[entry.first].empty() ? next_to_read() : &entry;
  }

  void work() {
    std::unique_lock held(mutex);
    for (;;) {
      std::pair<const std::size_t, Batch>* entry = nullptr;
      changed.wait(held, [&] {
        return stopping || (entry = next_to_read()) != nullptr || (begun == batches.size() && all_claimed());
      });
      if (stopping || entry == nullptr) return;
      auto& [number, batch] = *entry;
      const std::size_t place = batch.claimed++;
      held.unlock();
      std::exception_ptr error;
      try {
        reader.fill(batch.block, place, batches[number][place]);
      } catch (...) {
        error = std::current_exception();
      }
      held.lock();
      ++batch.read;
      if (error && !batch.error) batch.error = error;
      changed.notify_all();
    }
  }

  bool all_claimed() const {
    return std::ranges::all_of(ahead, [&](const auto& entry) {
      return entry.second.error || entry.second.claimed == batches[entry.first].size();
    });
  }

  // Nobody reads into it any more.
  bool is_over(std::size_t number) const {
    const auto found = ahead.find(number);
    if (found == ahead.end()) return false;
    const Batch& batch = found->second;
    return batch.read == batch.claimed && (batch.error || batch.read == batches[number].size());
  }

  void stop() {
    {
      const std::lock_guard held(mutex);
      stopping = true;
    }
    changed.notify_all();
    for (std::thread& thread : threads) thread.join();
  }
};

Prefetcher::Prefetcher(const ShardReader& reader, std::vector<std::vector<std::size_t>> batches,
                       PrefetchOptions options)
    : state_(std::make_unique<State>(reader, std::move(batches), std::move(options))) {
  const SignalsBlocked blocked;
  try {
    for (int i = 0; i < std::max(state_->options.threads, 1); ++i)
      state_->threads.emplace_back([state = state_.get()] { state->work(); });
  } catch (...) {
    state_->stop();
    throw;
  }
}

Prefetcher::~Prefetcher() { state_->stop(); }

std::optional<FeatureBlock> Prefetcher::next() {
  std::unique_lock held(state_->mutex);
  if (state_->consumed == state_->batches.size()) return std::nullopt;
  const std::size_t number = state_->consumed;
  state_->changed.wait(held, [&] { return state_->is_over(number); });
  State::Batch batch = std::move(state_->ahead.extract(number).mapped());
  ++state_->consumed;
  held.unlock();
  state_->changed.notify_all();
  if (batch.error) std::rethrow_exception(batch.error);
  return std::move(batch.block);
}

}  // namespace filo
