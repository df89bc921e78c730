// What runs are told to: TensorBoard's files, an MLflow server.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "scheduler/tracking/follower.hpp"
#include "settings/tracking.hpp"

namespace filo {

// Nobody can be told anything just now: a server that does not answer, or does not know us.
class SinkAway : public Error {
  using Error::Error;
};

// Calls throw SinkAway, or Error where only this run is refused. What they have begun is then done again: to tell the
// same twice comes to the same as to tell it once. Not thread-safe.
class RunSink {
 public:
  virtual ~RunSink() = default;

  virtual std::string name() const = 0;   // for file names: "tensorboard", "mlflow-0f3a9c21"; one for each place
  virtual std::string place() const = 0;  // for people: a folder, an address

  // `memory` is what the sink wants to know the next time, in this process or another: of the run (null the first
  // time), and of them all (at first {"token": a random text}, which is on disk by then). It is kept in the workspace.
  virtual void tell(const TrackedRun& run, Json& memory, Json& shared_memory, const RunBatch& batch) = 0;
  // Of a run that was told something. `time`: of the last of it, seconds since 1970.
  virtual void set_status(const TrackedRun& run, const Json& memory, RunStatus status, double time) = 0;
  // Whether what was told is there no more, so that all is told again, as of a new run.
  virtual bool is_lost(const Json& memory) const = 0;
};

// Those that the settings name. Throws UsageError where they cannot be made: a token that no header can hold.
std::vector<std::unique_ptr<RunSink>> make_sinks(const Workspace& workspace, const std::shared_ptr<const Plan>& plan,
                                                 const TrackingSettings& settings);

}  // namespace filo
