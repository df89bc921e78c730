// `resources:` of an experiment: what a stage asks for, the texts "4G" and "01:00:00" as numbers and back, and what the
// next attempt gets. Resources are not part of any stage's key.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.hpp"

namespace filo {

struct Schema;

// After how many attempts of a kind a stage is given up (until `filo retry`, which counts anew).
struct AttemptLimits {
  int failures = 3;
  int timeouts = 4;       // each one doubles the next attempt's time
  int out_of_memory = 4;  // each one gives the next attempt 1.5 times the memory
  int requeues = 50;      // stopped early, lost, preempted: a loop that never ends is a failure too
  friend bool operator==(const AttemptLimits&, const AttemptLimits&) = default;
};

struct ResourceSettings {
  int ranks = 2;
  int threads = 1;                       // per rank
  int gpus = 0;                          // per rank
  std::string memory = "4G";             // of all ranks: digits and one of K, M, G, T
  std::string time = "01:00:00";         // hours:minutes:seconds
  int hang_timeout_s = 1800;             // after which a job whose ranks do not get on is ended; 0: never
  std::string prefetch_memory = "512M";  // of each rank: for batches that are read ahead; digits and K, M, G or T
  std::string shard_size = "1G";         // of a feature cache's files
  // A folder of each node's own disk that gets copies of the feature caches that are read; may begin with $VARIABLE of
  // the job's environment. "": they are read where they lie.
  std::string local_copy{};
  AttemptLimits attempts{};
};

// In the shape of the YAML; hang_timeout_s, prefetch_memory, shard_size and local_copy only where they are not as
// usual; the inverse throws UsageError naming `where` and the key.
Json to_json(const ResourceSettings& settings);
Json to_json(const AttemptLimits& limits);
ResourceSettings resource_settings_from_json(const Json& json, const std::string& where);

Schema resource_schema();
Schema memory_schema(const std::string& fallback);
Schema time_schema(const std::string& fallback);
ResourceSettings resource_settings_of(const Json& resolved);  // from a value that resolve() returned without problems

// What is wrong with a text that is to be an amount of memory, "" when nothing.
std::string memory_fault(const std::string& text);

// Of texts that the schemas above let through.
std::uint64_t memory_in_bytes(const std::string& text);
std::int64_t time_in_seconds(const std::string& text);
std::string memory_text(std::uint64_t bytes);  // in whole units, rounded up to MiB: "6G", "1536M"
std::string time_text(std::int64_t seconds);   // at most 9999:59:59

// What the next attempt gets: twice the time for each attempt that ran out of time, 1.5 times the memory for each that
// ran out of memory.
ResourceSettings grown(ResourceSettings resources, int timeouts, int out_of_memory);

}  // namespace filo
