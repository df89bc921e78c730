// Nobody waits in silence: what takes longer than two seconds says how far it is.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

namespace filo {

// Lines on the log, one every two seconds: "writing stages: 1200 of 4002". Not thread-safe.
class Progress {
 public:
  Progress(std::string what, std::size_t total) : what_(std::move(what)), total_(total) {}

  void at(std::size_t done);

 private:
  std::string what_;
  std::size_t total_;
  std::chrono::steady_clock::time_point told_ = std::chrono::steady_clock::now();
};

}  // namespace filo
