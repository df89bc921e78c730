#include <algorithm>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "data/shards/shards.hpp"

namespace filo {

struct Prefetcher::State {
  struct Result {
    FeatureSample sample;
    std::exception_ptr error;
  };

  const ShardReader& reader;
  const std::vector<std::size_t> order;
  const std::size_t depth;
  const Parts parts;

  std::mutex mutex;
  std::condition_variable changed;
  std::size_t claimed = 0;   // [0, claimed) of the order is read or being read
  std::size_t consumed = 0;  // [0, consumed) was given out
  std::map<std::size_t, Result> ready;
  bool stopping = false;
  std::vector<std::thread> threads;

  State(const ShardReader& source, std::vector<std::size_t> wanted, std::size_t ahead, Parts which)
      : reader(source), order(std::move(wanted)), depth(std::max<std::size_t>(ahead, 1)), parts(which) {}

  void work() {
    for (;;) {
      std::unique_lock held(mutex);
      changed.wait(held, [this] { return stopping || claimed == order.size() || claimed < consumed + depth; });
      if (stopping || claimed == order.size()) return;
      const std::size_t ticket = claimed++;
      held.unlock();
      Result result;
      try {
        result.sample = reader.read(order[ticket], parts);
      } catch (...) {
        result.error = std::current_exception();
      }
      held.lock();
      ready.emplace(ticket, std::move(result));
      changed.notify_all();
    }
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

Prefetcher::Prefetcher(const ShardReader& reader, std::vector<std::size_t> order, std::size_t depth, int threads,
                       Parts parts)
    : state_(std::make_unique<State>(reader, std::move(order), depth, parts)) {
  try {
    for (int i = 0; i < std::max(threads, 1); ++i)
      state_->threads.emplace_back([state = state_.get()] { state->work(); });
  } catch (...) {
    state_->stop();
    throw;
  }
}

Prefetcher::~Prefetcher() { state_->stop(); }

std::optional<FeatureSample> Prefetcher::next() {
  std::unique_lock held(state_->mutex);
  if (state_->consumed == state_->order.size()) return std::nullopt;
  const std::size_t ticket = state_->consumed;
  state_->changed.wait(held, [&] { return state_->ready.contains(ticket); });
  State::Result result = std::move(state_->ready.extract(ticket).mapped());
  ++state_->consumed;
  held.unlock();
  state_->changed.notify_all();
  if (result.error) std::rethrow_exception(result.error);
  return std::move(result.sample);
}

}  // namespace filo
