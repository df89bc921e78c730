// What `filo bench scheduler` measures: how the coordinator fares with grids far larger than a day's.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>

#include "base/json.hpp"

namespace filo {

struct SchedulerBenchOptions {
  std::filesystem::path folder;   // made and removed afterwards; empty if it is there
  std::filesystem::path program;  // filo
  std::size_t stages = 100'000;
  std::size_t trials = 10'000;
  std::size_t workers = 10'000;
  double events_s = 10;  // how long the workers send events, one a second each
  std::function<void(const std::string& line)> progress = [](const std::string&) {};
};

// {"stages", "rescan_s": a pass without an index, "pass_s": a process that loads the plan and makes a pass with nothing
//  to do, "next_pass_s": the passes of a loop after its first, "status_s": `filo status`, "memory_mb": the most that
//  any of these processes held, "plan": {"trials", "stages", "seconds"}, "events": {"workers", "per_s", "delay_s":
//  {"median", "p99", "most"}, "core": share of one core that taking them in took, "lost"}}
Json bench_scheduler(const SchedulerBenchOptions& options);

}  // namespace filo
