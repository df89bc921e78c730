// The room on this machine: its cores, memory and GPUs, less what stages take that run here, whichever process of this
// workspace runs them. WORKSPACE/local/HOST-PID.json tells the others what a process runs.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "scheduler/executors/executor.hpp"
#include "scheduler/executors/machine.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// What a stage that runs takes.
struct LocalUse {
  ResourceSettings resources;
  std::vector<std::string> gpus{};  // as CUDA_VISIBLE_DEVICES names them
};

// Not thread-safe. `running` is what this process runs at the moment of the call.
class LocalSlots {
 public:
  // `claim`: process_claim() of this process.
  LocalSlots(const Workspace& workspace, LocalCapacity capacity, Json claim);
  ~LocalSlots();  // this process runs nothing any more
  LocalSlots(const LocalSlots&) = delete;
  LocalSlots& operator=(const LocalSlots&) = delete;

  // Nothing is reserved; what other processes run is read when it is asked for next.
  void begin();
  void release() { reserved_.clear(); }  // what was reserved runs by now, or does not

  // Room for one more stage. One that asks for more than the machine has gets it when nothing else runs.
  bool reserve(const ResourceSettings& wanted, const std::vector<LocalUse>& running);
  // GPUs that nobody uses, for each request; none where it asks for none, or for more than are free (it then sees all).
  std::vector<std::vector<std::string>> free_gpus(const std::vector<StartRequest>& requests,
                                                  const std::vector<LocalUse>& running);

  void publish(const std::vector<LocalUse>& running) const;

 private:
  std::vector<LocalUse> used(const std::vector<LocalUse>& running);
  void read_elsewhere();
  std::filesystem::path file() const;

  Workspace workspace_;
  LocalCapacity capacity_;
  Json claim_;
  std::vector<ResourceSettings> reserved_;
  std::vector<LocalUse> elsewhere_;  // as it was read last
  bool elsewhere_is_due_ = false;
};

}  // namespace filo
