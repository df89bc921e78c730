// float <-> IEEE 754 half precision (binary16) arrays. Halves are carried as their 16 bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace filo {

// Round to nearest, ties to even; values from 65520 on become infinity, subnormals are kept, a NaN stays a quiet NaN
// (sign and the upper ten bits of its payload kept). Vectorised with F16C where the processor has it, with equal bits
// without. Throws Error when the sizes differ.
void float_to_half(std::span<const float> from, std::span<std::uint16_t> to);

// Exact; signalling NaNs become quiet.
void half_to_float(std::span<const std::uint16_t> from, std::span<float> to);

std::uint16_t float_to_half(float value);
float half_to_float(std::uint16_t bits);

}  // namespace filo
