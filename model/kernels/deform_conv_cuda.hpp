// The CUDA twin of deform_conv.hpp: the same sampling, the same layouts, on device pointers, on the caller's stream.
//
// Compiled from deform_conv_cuda.cu where nvcc is (CMake's FILO_WITH_CUDA), else from no_deform_conv_cuda.cpp, whose
// functions throw. All functions only enqueue; they throw Error with CUDA's own reason when a launch is refused.
#pragma once

#include "model/kernels/deform_conv.hpp"

namespace filo::kernels {

// A cudaStream_t, kept opaque so that callers need no CUDA headers.
using CudaStream = void*;

bool deform_conv_cuda_available();  // whether this build has the kernels

// As gather_columns; T is float or double, Column is T or (for float) Bfloat16.
template <typename T, typename Column>
void gather_columns_cuda(const DeformConvShape& shape, const DeformConvInput<T>& in, std::int64_t first_row,
                         std::int64_t row_count, std::int64_t first_tap, std::int64_t tap_count, Column* columns,
                         CudaStream stream);

// As scatter_columns. Offset and mask gradients are the same bits on each call; the input's gradient is summed with
// atomic additions, whose order, and last bit, may differ from call to call.
template <typename T>
void scatter_columns_cuda(const DeformConvShape& shape, const DeformConvInput<T>& in, std::int64_t first_row,
                          std::int64_t row_count, std::int64_t first_tap, std::int64_t tap_count, const T* columns,
                          const DeformConvGradients<T>& gradients, CudaStream stream);

}  // namespace filo::kernels
