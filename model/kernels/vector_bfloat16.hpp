// Vectors of floats that are kept as float or as bfloat16. For the *_isa.cpp files only.
#pragma once

#include "model/kernels/row_kernels.hpp"
#include "model/kernels/vector.hpp"

namespace filo::kernels::FILO_ISA {

using Floats = Vec<float>;
using Integers = Vec<std::int32_t>;
using Halves
    __attribute__((vector_size(Vector<float>::lanes * sizeof(Bfloat16)), aligned(sizeof(Bfloat16)), may_alias)) =
        Bfloat16;

inline Floats floats_of(Integers bits) { return reinterpret_cast<Floats>(bits); }
inline Integers bits_of(Floats values) { return reinterpret_cast<Integers>(values); }

inline Floats load_floats(const float* p) { return load<float>(p); }
inline Floats load_floats(const Bfloat16* p) {
  return floats_of(__builtin_convertvector(*reinterpret_cast<const Halves*>(p), Integers) << 16);
}

inline void store_floats(float* p, Floats v) { store<float>(p, v); }
// To nearest, ties to even; NaN stays NaN. The bfloat16 is in the upper half, the lower half is of no meaning.
inline Integers rounded_bits(Floats v) {
  const Integers bits = bits_of(v);
  // NOLINTNEXTLINE(misc-redundant-expression): what is not equal to itself is NaN
  return v == v ? bits + 0x7fff + ((bits >> 16) & 1) : Integers{} + 0x7fc00000;
}
inline void store_floats(Bfloat16* p, Floats v) {
  *reinterpret_cast<Halves*>(p) = __builtin_convertvector(rounded_bits(v) >> 16, Halves);
}

// p[2 i] = even[i], p[2 i + 1] = odd[i]
inline void store_pairs(Bfloat16* p, Floats even, Floats odd) {
  const Integers low = (rounded_bits(even) >> 16) & 0xffff;
  const Integers high = rounded_bits(odd) & static_cast<std::int32_t>(0xffff0000);
  store<std::int32_t>(reinterpret_cast<std::int32_t*>(p), low | high);
}

// In a fixed order.
inline float sum_of(Floats v) {
  float sums[Vector<float>::lanes];
  store<float>(sums, v);
  for (std::int64_t width = Vector<float>::lanes / 2; width > 0; width /= 2)
    for (std::int64_t i = 0; i < width; ++i) sums[i] += sums[i + width];
  return sums[0];
}

}  // namespace filo::kernels::FILO_ISA
