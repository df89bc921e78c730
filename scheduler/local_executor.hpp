// Stages as child processes of this one: `mpirun -np RANKS filo-worker KIND ...`, in slots of cores, memory and GPUs.
#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/process.hpp"
#include "scheduler/executor.hpp"

namespace filo {

// What this machine has, or what of it may be used.
struct LocalCapacity {
  int cores = 1;
  std::uint64_t memory_bytes = 0;
  int gpus = 0;
};
LocalCapacity
this_machine();  // cores this process may run on; memory of the machine or its control group; /dev/nvidia*

std::uint64_t memory_in_bytes(const std::string& text);  // "4G", as the settings' schema allows

// Not thread-safe. The destructor ends what still runs (SIGTERM to mpirun, SIGKILL after 5 s).
class LocalExecutor : public Executor {
 public:
  // `worker`: the program filo-worker. `mpirun`: the program mpirun ("mpirun": looked up in PATH).
  LocalExecutor(const Workspace& workspace, std::filesystem::path worker, LocalCapacity capacity = this_machine(),
                std::string mpirun = "mpirun");
  ~LocalExecutor() override;

  std::vector<Job> jobs() override;
  // A stage that asks for more than the machine has runs alone.
  bool has_room(const ResourceSettings& resources) override;
  Json claim() const override;
  // The claiming process lives on this host; or, on another host, touched its claim within the last minute.
  bool may_be_running(const Json& claim, double age_s) const override;
  // Ends first what an earlier attempt left running on this host (mpirun was killed, its ranks not yet).
  void start(const PlannedStage& stage, int attempt) override;
  void forget(const std::string& stage, int attempt) override;

  // SIGUSR2 to each mpirun, which hands it to the ranks: they write a snapshot and exit 75. (SIGTERM would have mpirun
  // kill them at once.)
  void ask_to_stop();
  // SIGTERM to each mpirun: for those that did not heed ask_to_stop().
  void end_all();

 private:
  struct Running {
    Process process;
    ResourceSettings resources;
    bool asked_to_stop = false;
  };

  Workspace workspace_;
  std::filesystem::path worker_;
  LocalCapacity capacity_;
  std::string mpirun_;
  Json claim_;
  std::map<std::pair<std::string, int>, Running> running_;  // and ended ones until forget()
};

// filo-worker: $FILO_WORKER, else beside this program. Throws Error when it is not there.
std::filesystem::path find_worker();

}  // namespace filo
