// What the HTTP server counts, for whoever shows it.
#pragma once

#include <atomic>
#include <cstdint>

namespace filo::http {

struct ServerCounters {
  std::atomic<std::uint64_t> requests{0}, refused_tokens{0}, malformed{0}, connections{0}, refused_connections{0},
      timeouts{0};
  std::atomic<std::int64_t> open_connections{0}, open_streams{0};
};

}  // namespace filo::http
