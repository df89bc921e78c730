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
  double seconds = 20;       // how long the workers send events, one a second each, and how long filo serve is watched
  std::string cluster_file;  // jobs are submitted to this cluster, and cancelled; "": none
  std::size_t jobs = 1000;
  std::function<void(const std::string& line)> progress = [](const std::string&) {};
};

// {"stages", "rescan_s": a pass without an index, "pass_s": a process that loads the plan and makes a pass with nothing
//  to do, "next_pass_s": the passes of a loop after its first, "status_s": `filo status`, "memory_mb": the most that
//  any of these processes held, "serve_memory_mb": the most that `filo serve` held in its first passes, "plan":
//  {"trials", "stages", "seconds"}, "events": {"workers", "per_s", "delay_s":
//  {"median", "p99", "most"}, "core": share of one core that taking them in took, "lost"}, "submission" (with a
//  cluster): {"jobs", "seconds" of the coordinator from its look at the queue to the last job's release, "commands" to
//  the controller}}
// Throws Error when the cluster does not take the jobs (what it took is cancelled).
Json bench_scheduler(const SchedulerBenchOptions& options);

}  // namespace filo
