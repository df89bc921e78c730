// A loop over independent items on a few threads, for file work. No pool, no state: threads live for one call.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace filo {

using Progress = std::function<void(std::size_t done, std::size_t total)>;  // called under a lock, from any thread

// Runs work(i) for every i in [0, count), in no particular order. The first exception ends the loop and is thrown again
// here. threads <= 0: as many as the machine has, at most 16.
inline void parallel_for(std::size_t count, int threads, const std::function<void(std::size_t)>& work,
                         const Progress& progress = nullptr) {
  const unsigned machine = std::clamp(std::thread::hardware_concurrency(), 1u, 16u);
  const std::size_t workers = std::min<std::size_t>(count, threads > 0 ? static_cast<unsigned>(threads) : machine);
  std::atomic<std::size_t> next{0};
  std::size_t done = 0;
  std::mutex mutex;
  std::exception_ptr failure;
  const auto run = [&] {
    for (std::size_t i = next++; i < count; i = next++) {
      try {
        work(i);
        if (!progress) continue;
        const std::lock_guard lock(mutex);
        progress(++done, count);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
        next = count;
      }
    }
  };
  {
    std::vector<std::jthread> pool;
    for (std::size_t i = 1; i < workers; ++i) pool.emplace_back(run);
    run();
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace filo
