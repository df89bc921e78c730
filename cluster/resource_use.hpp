// What the ranks of a job used of their machines, to be held against what was asked for.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "cluster/communicator.hpp"

namespace filo {

struct ResourceUse {
  double cpu_s = 0;                    // of all ranks, user and system; Open MPI's waiting counts, it spins
  std::uint64_t memory_bytes = 0;      // each rank's peak of resident memory, added up; shared pages count in each
  std::uint64_t gpu_memory_bytes = 0;  // the largest peak of a rank's
  std::optional<double> gpu_use;       // share of the time in which the ranks' kernels ran, their mean, 0 to 1
};

// Of this process so far; without anything of GPUs.
ResourceUse resource_use_of_this_process();

// Of this process now; 0 where the system does not tell.
std::uint64_t resident_memory_bytes();

// Of all ranks: the sum on rank 0, `mine` elsewhere. Collective over host memory; rank 0 waits for all.
ResourceUse resource_use_of_all(Communicator& host, const ResourceUse& mine);

// Looks every two seconds which share of the GPUs' time this process takes, by the driver's management library (NVML,
// nvmlDeviceGetProcessUtilization), in a thread of its own.
class GpuMeter {
 public:
  // Does nothing where the library cannot be loaded or does not tell.
  explicit GpuMeter(const char* library = "libnvidia-ml.so.1");
  ~GpuMeter();
  std::optional<double> use() const;  // mean so far; unset: nothing is known

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace filo
