// claim.json: who runs an attempt, so that no other process starts it again.
#pragma once

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <mutex>
#include <set>
#include <stop_token>
#include <thread>

#include "base/json.hpp"

namespace filo {

// Of an attempt that runs as a child of this process: {"executor": "local", "host", "boot", "pid", "process_started"}.
Json process_claim();

// Whether an attempt with this claim may still run, as far as can be told without asking its executor. Claims of
// processes: on this host, that the process lives; on another, that the claim was touched within the last minute.
// Other claims (a cluster's) are taken to hold. `age_s` gives the seconds since the claim was written or touched; it is
// asked about other hosts' claims only.
bool claim_holds(const Json& claim, const std::function<double()>& age_s);

// Touches claim files every few seconds for as long as it has them, on a thread of its own: whatever else its process
// waits for, other hosts see that it lives. Thread-safe.
class Heartbeat {
 public:
  explicit Heartbeat(std::chrono::milliseconds every = std::chrono::seconds(5)) : every_(every) {}
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

  void add(const std::filesystem::path& claim_file);
  void remove(const std::filesystem::path& claim_file);

 private:
  void run(const std::stop_token& stop);

  const std::chrono::milliseconds every_;
  std::mutex mutex_;
  std::condition_variable_any stopped_;
  std::set<std::filesystem::path> files_;
  std::jthread thread_;  // from the first file on
};

}  // namespace filo
