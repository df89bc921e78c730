// What this machine has.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace filo {

// What this machine has, or what of it may be used.
struct LocalCapacity {
  int cores = 1;
  std::uint64_t memory_bytes = 0;
  std::vector<std::string> gpus{};  // as CUDA_VISIBLE_DEVICES names them
};
// Cores this process may run on; memory of the machine or its control group; GPUs of CUDA_VISIBLE_DEVICES, where that
// is set, else all.
LocalCapacity this_machine();

// filo-worker: $FILO_WORKER, else beside this program. Throws Error when it is not there.
std::filesystem::path find_worker();

}  // namespace filo
