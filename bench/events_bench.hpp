// How many workers' events the server takes in, and how late: a benchmark.
#pragma once

#include <filesystem>

#include "base/json.hpp"

namespace filo {

struct BenchEventsOptions {
  int workers = 10'000;          // each with a connection of its own and one event a second
  double seconds = 20;           // of posting
  std::filesystem::path folder;  // for the simulated workspace; made, and removed at the end
};

// A whole `filo serve` confined to one core, and simulated workers beside it. {"workers", "seconds", "events",
// "delay_ms": {"p50", "p99", "max"} (from the moment an event happened to the server's answer), "late" (answered after
// more than a second), "failed", "server_cores" (CPU time over time), "resident_bytes"}. Throws Error when so many
// connections cannot be had.
Json bench_events(const BenchEventsOptions& options);

}  // namespace filo
