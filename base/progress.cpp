#include "base/progress.hpp"

#include "base/log.hpp"

namespace filo {

void Progress::at(std::size_t done) {
  const auto now = std::chrono::steady_clock::now();
  if (now - told_ < std::chrono::seconds(2)) return;
  told_ = now;
  log_info(what_ + ": " + std::to_string(done) + " of " + std::to_string(total_));
}

}  // namespace filo
