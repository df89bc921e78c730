// Runs as TensorBoard's event files: experiments/NAME/tensorboard/RUN/events.out.tfevents.*, one file a run.
#pragma once

#include "scheduler/tracking/sink.hpp"

namespace filo {

// A process that was killed while it wrote leaves bytes that the next one writes over, so that each point stands there
// once. A file that was removed or cut is written anew, from the events.
class TensorBoardSink : public RunSink {
 public:
  explicit TensorBoardSink(std::filesystem::path folder) : folder_(std::move(folder)) {}

  std::string name() const override { return "tensorboard"; }
  std::string place() const override { return folder_.string(); }
  void tell(const TrackedRun& run, Json& memory, Json& shared_memory, const RunBatch& batch) override;
  void set_status(const TrackedRun&, const Json&, RunStatus, double) override {}  // its files know no end
  bool is_lost(const Json& memory) const override;

 private:
  std::string file_for(const TrackedRun& run, double time) const;

  std::filesystem::path folder_;
};

}  // namespace filo
