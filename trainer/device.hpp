// Which device this rank computes on, and the communicator that fits it.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>

#include "cluster/communicator.hpp"

namespace filo {

struct Device {
  std::unique_ptr<Communicator> host;    // MPI, host memory: agreement, results, events
  std::unique_ptr<Communicator> device;  // NCCL, device memory: gradients; none on the CPU, where `host` serves both
};

// The CPU, with MPI. Also sets LibTorch's thread count and its deterministic mode. Needs a living MpiSession.
Device open_device(int threads);

// Loads LibTorch's CUDA library, takes the GPU of this rank's place on its host, NCCL between them. Throws Error saying
// what is missing and the mend. A sum that waits longer than `timeout_s` for other ranks fails; 0: none does.
void use_gpu(Device& device, double timeout_s);

// The CPU, or what use_gpu() chose. Set once per process, before any work.
torch::Device compute_device();

// The most that LibTorch took of it so far, bytes; 0 on the CPU.
std::uint64_t peak_device_memory();

}  // namespace filo
