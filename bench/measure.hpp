// What the benchmarks share.
#pragma once

#include <chrono>
#include <cstddef>
#include <ctime>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.hpp"

namespace filo {

double seconds_since(std::chrono::steady_clock::time_point start);
double cpu_seconds(clockid_t clock);  // CLOCK_PROCESS_CPUTIME_ID or CLOCK_THREAD_CPUTIME_ID

// The key of a made-up stage: as evenly spread as real ones.
std::string bench_key(std::size_t number);

// Without fsync: what is measured is reading. Throws Error.
void write_plainly(const std::filesystem::path& path, const std::string& text);

// Removed, with all that is in it, when this goes.
class RemovedFolder {
 public:
  explicit RemovedFolder(std::filesystem::path path) : path_(std::move(path)) {}
  ~RemovedFolder();
  RemovedFolder(const RemovedFolder&) = delete;
  RemovedFolder& operator=(const RemovedFolder&) = delete;

 private:
  std::filesystem::path path_;
};

// The value that `share` of the sorted ones do not exceed; null of none.
template <typename Number>
Json quantile(const std::vector<Number>& sorted, double share) {
  if (sorted.empty()) return Json();
  return sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1))];
}

}  // namespace filo
