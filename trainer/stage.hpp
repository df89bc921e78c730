// One attempt at one stage, as every rank of a worker sees it: its spec, its folders, its events, its result.
#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/json.hpp"
#include "cluster/communicator.hpp"
#include "cluster/resource_use.hpp"
#include "cluster/watchdog.hpp"
#include "settings/resources.hpp"
#include "trainer/device.hpp"
#include "workspace/events.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// The options that `filo-worker features | train | evaluate` share.
struct StageArguments {
  std::filesystem::path workspace;
  std::string key;  // folder name under WORKSPACE/stages
  int attempt = 1;
  int threads = 1;                                                   // of this rank
  int gpus = 0;                                                      // per rank: 0 = CPU
  int hang_timeout_s = ResourceSettings().hang_timeout_s;            // 0: a job that hangs is left alone
  std::string prefetch_memory = ResourceSettings().prefetch_memory;  // of this rank, for batches that are read ahead
  std::string shard_size = ResourceSettings().shard_size;
  std::string local_copy{};  // as ResourceSettings has it
  std::string version{};     // of the program, for the event `started`
};

class Stage {
 public:
  // Reads and checks spec.json, and starts the watchdog. Throws UsageError when the stage is not there or is of another
  // kind.
  Stage(const StageArguments& arguments, const std::string& kind, const Device& device, Watchdog& watchdog);

  // Where this rank is by now, for the case that it does not come further: told wherever ranks wait for each other or
  // for files, by all of them alike (cluster/watchdog.hpp).
  void at(const std::string& place) { watchdog_.at(to_string(kind_) + ": " + place); }

  const StageArguments& arguments() const { return arguments_; }
  const Json& spec() const { return spec_; }
  Communicator& communicator() const { return *device_.host; }  // host memory
  // Of the memory that parameters live in.
  Communicator& gradient_communicator() const { return device_.device ? *device_.device : *device_.host; }
  bool is_root() const { return communicator().rank() == 0; }

  const Workspace& workspace() const { return workspace_; }
  const std::string& key() const { return arguments_.key; }
  StageKind kind() const { return kind_; }
  std::filesystem::path folder() const { return workspace_.stage_folder(key()); }
  std::filesystem::path spec_file() const { return workspace_.spec_file(key()); }
  // The key of a stage this one needs, or of several (workspace/spec.hpp).
  std::string input(const std::string& name) const;
  std::vector<std::string> all_inputs(const std::string& name) const;

  // "ATTEMPT-START": of the files of this start, where its predecessors may have left some.
  std::string start_name() const { return std::to_string(arguments_.attempt) + "-" + std::to_string(start_); }

  // Where this start of the attempt makes what finish() then moves to folder() / name.
  std::filesystem::path output(const std::string& name) const {
    return workspace_.start_folder(key(), arguments_.attempt, start_) / name;
  }
  // Throws Error on rank 0 where another attempt or start has taken this one's place: before what all of them share
  // (snapshots) is changed.
  void expect_current() const {
    if (is_root()) workspace_.expect_current(key(), arguments_.attempt, start_);
  }

  EventLog& events() { return events_; }  // writes on rank 0 only

  // Moves the artifacts from output() into the stage's folder and writes result.json (rank 0; last of all), after which
  // nothing is kept for further attempts. Throws Error where a newer attempt or start has taken this one's place
  // (Workspace::commit()). `artifacts`: name -> path relative to the stage's folder, and to output().
  void finish(const Json& metrics, const std::map<std::string, std::string>& artifacts);

 private:
  void start_watchdog();

  StageArguments arguments_;
  const Device& device_;
  Watchdog& watchdog_;
  StageKind kind_;
  Workspace workspace_;
  std::int32_t start_ = 0;  // which start of the attempt this is, 1 the first
  Json spec_;
  EventLog events_;
  std::unique_ptr<GpuMeter> gpu_meter_;  // none on the CPU
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

// Thrown at a step boundary when all ranks agreed to stop and their snapshot is on disk: exit code 75.
class StoppedEarly : public Error {
 public:
  explicit StoppedEarly(const std::string& what) : Error("worker", what, ExitCode::stopped_early) {}
};

// Runs `body` as one attempt: MPI session, events `started` and `finished` | `stopped` | `failed`, exit code.
// An exception on one rank of several ends them all (MPI_Abort), so that none waits for ever.
int run_stage(const StageArguments& arguments, const std::string& kind, void (*body)(Stage&));

}  // namespace filo
