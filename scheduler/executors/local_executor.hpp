// Stages as child processes of this one: `mpirun -np RANKS filo-worker KIND ...`, in slots of cores, memory and GPUs.
#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/process.hpp"
#include "scheduler/executors/executor.hpp"
#include "scheduler/executors/local_slots.hpp"
#include "scheduler/executors/machine.hpp"
#include "workspace/claim.hpp"

namespace filo {

// Not thread-safe. The destructor ends what still runs (SIGTERM to mpirun, SIGKILL after 5 s).
class LocalExecutor : public Executor {
 public:
  // `worker`: the program filo-worker. `mpirun`: the program mpirun ("mpirun": looked up in PATH).
  LocalExecutor(const Workspace& workspace, std::filesystem::path worker, LocalCapacity capacity = this_machine(),
                std::string mpirun = "mpirun");
  ~LocalExecutor() override;

  std::string name() const override { return "local"; }
  // Also touches the claims of what runs, every 2 s at most, for processes on other hosts.
  std::vector<Job> jobs() override;
  // What other processes run on this machine from this workspace counts too. A stage that asks for more than the
  // machine has runs alone (and sees all GPUs).
  bool reserve(const ResourceSettings& resources) override;
  // This process, and GPUs of the attempt's own (for CUDA_VISIBLE_DEVICES).
  std::vector<Json> prepare(const std::vector<StartRequest>& requests) override;
  // Ends first what an earlier attempt left running on this host (mpirun was killed, its ranks not yet).
  std::vector<std::string> start(const std::vector<StartRequest>& requests, const std::vector<Json>& claims) override;
  // By claim_holds(); this process's own claims do not hold: what it runs is listed by jobs().
  bool may_be_running(const Json& claim, const std::function<double()>& age_s) const override;
  // SIGUSR2 to mpirun, which hands it to the ranks: they write a snapshot and exit 75. (SIGTERM would have mpirun kill
  // them at once.)
  void stop(const std::string& stage, int attempt) override;
  // SIGTERM to mpirun; SIGKILL when called again 5 s later.
  void kill(const std::string& stage, int attempt) override;
  void forget(const std::string& stage, int attempt) override;

  // Also ends those whose time is over, and an mpirun that lives on for 10 s after all its ranks are gone: Open MPI 4.1
  // has been seen to wait for ever when a rank is killed as it starts. Its attempt is lost.
  Children children() override;
  void stop_children() override;
  void end_children() override;  // SIGTERM to each mpirun; SIGKILL when called again 5 s later

 private:
  struct Running {
    Process process;
    LocalUse use;
    bool asked_to_stop = false;
    bool killed = false;
    std::optional<std::chrono::steady_clock::time_point> terminated{};         // when SIGTERM was sent
    std::optional<std::chrono::steady_clock::time_point> warn_at{}, end_at{};  // as its time demands
    bool timed_out = false;
    std::optional<std::chrono::steady_clock::time_point> seen_with_ranks{};
    bool deserted = false;
  };

  void start_one(const StartRequest& request, const Json& claim);  // throws Error
  static void terminate(Running& entry);
  static void give_time(Running& entry, StageKind kind);
  static void keep_to_its_time(Running& entry);
  void end_if_deserted(const std::string& key, Running& entry) const;
  std::vector<LocalUse> uses();
  Running* find(const std::string& stage, int attempt);  // null: no such attempt, or it has ended

  Workspace workspace_;
  std::filesystem::path worker_;
  std::string mpirun_;
  Json claim_;
  LocalSlots slots_;
  Heartbeat heartbeat_;
  std::map<std::pair<std::string, int>, Running> running_;  // and ended ones until forget()
  std::chrono::steady_clock::time_point looked_for_ranks_{};
};

}  // namespace filo
