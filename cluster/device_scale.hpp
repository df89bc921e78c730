// Inside cluster/ only: the one CUDA kernel that gradient buckets need.
#pragma once

#include <cstddef>

namespace filo {

// data[i] *= factor on `stream` (a cudaStream_t). Returns the launch's cudaError_t.
int device_scale(float* data, std::size_t count, float factor, void* stream);

}  // namespace filo
