// Where stages run. One interface, so that reconcile() does not know whether that is this machine or a cluster.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "scheduler/plan.hpp"
#include "scheduler/workspace.hpp"

namespace filo {

// One attempt that an executor knows of.
struct Job {
  std::string stage;  // key
  int attempt = 0;
  bool running = true;
  bool asked_to_stop = false;  // what it then exits with is no failure
  int exit_code = 0;           // valid when it no longer runs and signal == 0
  int signal = 0;
};

class Executor {
 public:
  virtual ~Executor() = default;

  // All attempts it knows of, in one call; an ended one stays listed until forget().
  virtual std::vector<Job> jobs() = 0;

  virtual bool has_room(const ResourceSettings& resources) = 0;

  // What identifies this executor in claim.json; written before start().
  virtual Json claim() const = 0;

  // Whether the executor that wrote this claim (another process, perhaps on another host) may still run the attempt.
  // `age_s`: seconds since the claim was written or touched.
  virtual bool may_be_running(const Json& claim, double age_s) const = 0;

  // Throws Error when the attempt cannot be started (the attempt then counts as failed).
  virtual void start(const PlannedStage& stage, int attempt) = 0;

  virtual void forget(const std::string& stage, int attempt) = 0;
};

}  // namespace filo
