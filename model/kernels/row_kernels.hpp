// Inner loops over contiguous channels, compiled for several instruction sets; chosen once, at run time, for this
// processor. Raw pointers, no torch. All functions are thread-safe and give the same bits on each call; n is the number
// of channels.
#pragma once

#include <cstdint>

namespace filo::kernels {

// Bit pattern of a bfloat16.
using Bfloat16 = std::uint16_t;

template <typename T>
struct RowKernels {
  // out[i] = sum over the four corners c of weights[c] * rows[c][i]. Rows whose weight is zero are still read.
  void (*blend)(const T* const rows[4], const T weights[4], std::int64_t n, T* out);

  // As blend, rounded to bfloat16 (to nearest, ties to even).
  void (*blend_to_bfloat16)(const T* const rows[4], const T weights[4], std::int64_t n, Bfloat16* out);

  // out[c] = sum over i of gradient[i] * rows[c][i].
  void (*dot)(const T* gradient, const T* const rows[4], std::int64_t n, T out[4]);

  // rows[c][i] += weights[c] * gradient[i], corner after corner (rows may coincide).
  void (*scatter)(const T* gradient, const T weights[4], std::int64_t n, T* const rows[4]);
};

// The kernels for the best of AVX-512, AVX2 + FMA and the compiler's baseline that this processor runs.
template <typename T>
const RowKernels<T>& row_kernels();

// "avx512", "avx2" or "baseline": what row_kernels() chose.
const char* instruction_set();

}  // namespace filo::kernels
