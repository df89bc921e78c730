#include "trainer/device.hpp"

#include <c10/core/CachingDeviceAllocator.h>
#include <dlfcn.h>
#include <torch/torch.h>

#include <cstdlib>

#include "base/error.hpp"
#include "cluster/session.hpp"

namespace filo {
namespace {

torch::Device& chosen_device() {
  static torch::Device device(torch::kCPU);
  return device;
}

// The worker links libtorch_cpu alone, so that it starts fast and runs where no CUDA library is (docs/decisions/005).
// Loading libtorch_cuda registers the CUDA kernels with LibTorch's dispatcher.
void load_cuda() {
  if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr)
    throw Error("device", std::string("GPUs were asked for, but LibTorch's CUDA library cannot be loaded: ") +
                              dlerror() +
                              "; install it with tools/setup on a machine that has nvcc, or set resources.gpus to 0");
  if (!torch::cuda::is_available())
    throw Error("device",
                "GPUs were asked for, but LibTorch sees none; check nvidia-smi and CUDA_VISIBLE_DEVICES, or set "
                "resources.gpus to 0");
}

// mpirun's and srun's number of this rank on its host; 0 without them.
int local_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID", "MPI_LOCALRANKID"})
    if (const char* value = std::getenv(name)) return std::atoi(value);
  return 0;
}

}  // namespace

torch::Device compute_device() { return chosen_device(); }

std::uint64_t peak_device_memory() {
  if (!chosen_device().is_cuda()) return 0;
  const auto stats = c10::getDeviceAllocator(c10::kCUDA)->getDeviceStats(chosen_device().index());
  return static_cast<std::uint64_t>(
      stats.reserved_bytes[static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak);
}

Device open_device(int threads) {
  torch::set_num_threads(threads);
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
  at::globalContext().setDeterministicFillUninitializedMemory(false);  // nothing here reads what was not written
  at::globalContext().setFlushDenormal(true);  // frozen random towers breed denormals; they cost 100x
  Device device;
  device.host = make_mpi_communicator();
  return device;
}

void use_gpu(Device& device, double timeout_s) {
  load_cuda();
  const auto visible = static_cast<int>(torch::cuda::device_count());
  const int index = gpu_of(local_rank(), visible, std::getenv("SLURM_GPUS_PER_TASK") != nullptr);
  chosen_device() = torch::Device(torch::kCUDA, static_cast<torch::DeviceIndex>(index));
  device.device = make_nccl_communicator(*device.host, {.device = index, .timeout_s = timeout_s});
}

}  // namespace filo
