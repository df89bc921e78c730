#include "bench/measure.hpp"

#include <fstream>

#include "base/error.hpp"
#include "base/hash.hpp"

namespace filo {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double cpu_seconds(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

std::string bench_key(std::size_t number) { return sha256_hex("bench " + std::to_string(number)).substr(0, 16); }

void write_plainly(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  if (!file.flush()) throw Error("bench: " + path.string(), "cannot be written");
}

RemovedFolder::~RemovedFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace filo
