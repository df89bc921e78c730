// Inside cluster/ only: float32 to bfloat16 and back in device memory, for sums that travel so. Rounds to nearest, ties
// to even. Enqueued on `stream` (a cudaStream_t); errors show in cudaGetLastError().
#pragma once

#include <cstddef>

namespace filo {

void float_to_bf16(const float* values, void* bf16, std::size_t count, void* stream);
void bf16_to_float(const void* bf16, float* values, std::size_t count, void* stream);

}  // namespace filo
