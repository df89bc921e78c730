// Compiled once per instruction set (CMake defines FILO_ISA and the flags). No standard headers with inline functions
// here: the linker may keep this file's copy of them for the whole program, which would then need this instruction set.
#include "model/kernels/row_kernels.hpp"
#include "model/kernels/vector.hpp"

namespace filo::kernels::FILO_ISA {
namespace {

inline Bfloat16 round_to_bfloat16(float value) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;  // NaN stays NaN
  return static_cast<Bfloat16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

template <typename T>
void blend(const T* const rows[4], const T weights[4], std::int64_t n, T* out) {
  const T *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
  const T wa = weights[0], wb = weights[1], wc = weights[2], wd = weights[3];
  std::int64_t i = 0;
  for (; i + Vector<T>::lanes <= n; i += Vector<T>::lanes) {
    store<T>(out + i, load<T>(a + i) * wa + load<T>(b + i) * wb + load<T>(c + i) * wc + load<T>(d + i) * wd);
  }
  for (; i < n; ++i) out[i] = a[i] * wa + b[i] * wb + c[i] * wc + d[i] * wd;
}

template <typename T>
void blend_to_bfloat16(const T* const rows[4], const T weights[4], std::int64_t n, Bfloat16* out) {
  constexpr std::int64_t block = 64;
  T sums[block];
  for (std::int64_t i = 0; i < n; i += block) {
    const std::int64_t size = n - i < block ? n - i : block;
    const T* const shifted[4] = {rows[0] + i, rows[1] + i, rows[2] + i, rows[3] + i};
    blend<T>(shifted, weights, size, sums);
    for (std::int64_t k = 0; k < size; ++k) out[i + k] = round_to_bfloat16(static_cast<float>(sums[k]));
  }
}

template <typename T>
void dot(const T* gradient, const T* const rows[4], std::int64_t n, T out[4]) {
  Vec<T> sums[4] = {};
  std::int64_t i = 0;
  for (; i + Vector<T>::lanes <= n; i += Vector<T>::lanes) {
    const Vec<T> g = load<T>(gradient + i);
    for (int c = 0; c < 4; ++c) sums[c] += g * load<T>(rows[c] + i);
  }
  for (int c = 0; c < 4; ++c) {
    T total = 0;
    for (std::int64_t k = 0; k < Vector<T>::lanes; ++k) total += sums[c][k];
    for (std::int64_t k = i; k < n; ++k) total += gradient[k] * rows[c][k];
    out[c] = total;
  }
}

template <typename T>
void scatter(const T* gradient, const T weights[4], std::int64_t n, T* const rows[4]) {
  for (int c = 0; c < 4; ++c) {
    const T weight = weights[c];
    T* row = rows[c];
    std::int64_t i = 0;
    for (; i + Vector<T>::lanes <= n; i += Vector<T>::lanes) {
      store<T>(row + i, load<T>(row + i) + load<T>(gradient + i) * weight);
    }
    for (; i < n; ++i) row[i] += gradient[i] * weight;
  }
}

}  // namespace

extern const RowKernels<float> float_kernels;
extern const RowKernels<double> double_kernels;
const RowKernels<float> float_kernels = {blend<float>, blend_to_bfloat16<float>, dot<float>, scatter<float>};
const RowKernels<double> double_kernels = {blend<double>, blend_to_bfloat16<double>, dot<double>, scatter<double>};

}  // namespace filo::kernels::FILO_ISA
