#include "data/shards/half.hpp"

#include <bit>
#include <cmath>
#include <string>

#include "base/error.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace filo {
namespace {

void check_sizes(std::size_t from, std::size_t to) {
  if (from != to)
    throw Error("half", "output size found: " + std::to_string(to) + ", expected the input's " + std::to_string(from));
}

#if defined(__x86_64__)

bool has_f16c() {
  static const bool found =
      __builtin_cpu_supports("avx2");  // F16C came before it; not every compiler can be asked for that
  return found;
}

__attribute__((target("avx,f16c"))) std::size_t to_half_f16c(const float* from, std::uint16_t* to, std::size_t count) {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), halves);
  }
  return i;
}

__attribute__((target("avx,f16c"))) std::size_t to_float_f16c(const std::uint16_t* from, float* to, std::size_t count) {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8)
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
  return i;
}

#else

bool has_f16c() { return false; }
std::size_t to_half_f16c(const float*, std::uint16_t*, std::size_t) { return 0; }
std::size_t to_float_f16c(const std::uint16_t*, float*, std::size_t) { return 0; }

#endif

}  // namespace

std::uint16_t float_to_half(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u)  // NaN
    return static_cast<std::uint16_t>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65520 and more
  std::uint32_t mantissa, discarded;
  if (magnitude >= 0x38800000u) {  // normal: rebias the exponent, drop 13 bits
    mantissa = magnitude - ((127u - 15u) << 23);
    discarded = 13;
  } else {  // subnormal: in units of 2^-24
    const std::uint32_t exponent = magnitude >> 23;
    if (exponent < 102) return sign;  // below half of the smallest
    mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    discarded = 126 - exponent;
  }
  const std::uint32_t kept = mantissa >> discarded;
  const std::uint32_t rest = mantissa & ((1u << discarded) - 1);
  const std::uint32_t half_way = 1u << (discarded - 1);
  const std::uint32_t up = rest > half_way || (rest == half_way && (kept & 1u) != 0) ? 1u : 0u;
  return static_cast<std::uint16_t>(sign | (kept + up));
}

float half_to_float(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t exponent = bits >> 10 & 0x1fu;
  const std::uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0x1f) {
    const std::uint32_t quiet = mantissa == 0 ? 0 : 0x400000u;
    return std::bit_cast<float>(sign | 0x7f800000u | quiet | mantissa << 13);
  }
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | (exponent + 127 - 15) << 23 | mantissa << 13);
}

void float_to_half(std::span<const float> from, std::span<std::uint16_t> to) {
  check_sizes(from.size(), to.size());
  std::size_t i = has_f16c() ? to_half_f16c(from.data(), to.data(), from.size()) : 0;
  for (; i < from.size(); ++i) to[i] = float_to_half(from[i]);
}

void half_to_float(std::span<const std::uint16_t> from, std::span<float> to) {
  check_sizes(from.size(), to.size());
  std::size_t i = has_f16c() ? to_float_f16c(from.data(), to.data(), from.size()) : 0;
  for (; i < from.size(); ++i) to[i] = half_to_float(from[i]);
}

}  // namespace filo
