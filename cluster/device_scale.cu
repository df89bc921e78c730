#include <cuda_runtime.h>

#include "cluster/device_scale.hpp"

namespace filo {
namespace {

__global__ void scale_kernel(float* data, std::size_t count, float factor) {
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride)
    data[i] *= factor;
}

}  // namespace

int device_scale(float* data, std::size_t count, float factor, void* stream) {
  if (count == 0) return cudaSuccess;
  constexpr unsigned threads = 256;
  const std::size_t needed = (count + threads - 1) / threads;
  const unsigned blocks = static_cast<unsigned>(needed < 4096 ? needed : 4096);
  scale_kernel<<<blocks, threads, 0, static_cast<cudaStream_t>(stream)>>>(data, count, factor);
  return cudaGetLastError();
}

}  // namespace filo
