// Inner loops of the image tower over contiguous numbers, compiled for several instruction sets as row_kernels.hpp has
// it. Raw pointers, no torch. Thread-safe; the same bits on each call. exp() is within 2e-7 of it, relative.
#pragma once

#include <cstdint>

#include "model/kernels/row_kernels.hpp"

namespace filo::kernels {

// T: float, or Bfloat16, which is computed with in float32 and rounded once.
template <typename T>
struct TowerRows {
  // out[i] = exp(x[i] - max(x)), i < n, n >= 1; returns the sum of what is not yet rounded. out may be x.
  float (*exponentials)(const float* x, std::int64_t n, T* out);

  // x[i] /= 1 + exp(-1.702 x[i])
  void (*quick_gelu)(T* x, std::int64_t n);
};

// T: float, Bfloat16.
template <typename T>
const TowerRows<T>& tower_rows();

}  // namespace filo::kernels
