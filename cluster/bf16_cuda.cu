#include <cuda_bf16.h>

#include "cluster/bf16_cuda.hpp"

namespace filo {
namespace {

constexpr unsigned threads = 256;

unsigned blocks_of(std::size_t count) { return static_cast<unsigned>((count + threads - 1) / threads); }

__global__ void convert(const float* values, __nv_bfloat16* bf16, std::size_t count) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * threads + threadIdx.x;
  if (i < count) bf16[i] = __float2bfloat16_rn(values[i]);
}

__global__ void convert(const __nv_bfloat16* bf16, float* values, std::size_t count) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * threads + threadIdx.x;
  if (i < count) values[i] = __bfloat162float(bf16[i]);
}

}  // namespace

void float_to_bf16(const float* values, void* bf16, std::size_t count, void* stream) {
  if (count == 0) return;
  convert<<<blocks_of(count), threads, 0, static_cast<cudaStream_t>(stream)>>>(
      values, static_cast<__nv_bfloat16*>(bf16), count);
}

void bf16_to_float(const void* bf16, float* values, std::size_t count, void* stream) {
  if (count == 0) return;
  convert<<<blocks_of(count), threads, 0, static_cast<cudaStream_t>(stream)>>>(static_cast<const __nv_bfloat16*>(bf16),
                                                                               values, count);
}

}  // namespace filo
