// What `filo serve` counts, for GET /metrics.
#pragma once

#include <atomic>
#include <cstdint>

namespace filo::http {

struct ServerCounters {
  std::atomic<std::uint64_t> requests{0}, refused_tokens{0}, malformed{0}, connections{0}, refused_connections{0},
      timeouts{0};
  std::atomic<std::int64_t> open_connections{0}, open_streams{0};
  std::atomic<std::uint64_t> passes{0}, failed_passes{0};
  std::atomic<double> pass_seconds{0};  // the last one's
};

}  // namespace filo::http
