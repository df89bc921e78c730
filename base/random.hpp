// Deterministic random numbers, equal on every machine and compiler: SplitMix64 streams keyed by (seed, name, index).
// (std::normal_distribution and friends differ between standard libraries.)
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

namespace filo {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  // A stream of its own for each (seed, name, index): order of use elsewhere does not matter.
  Random(std::uint64_t seed, std::string_view name, std::uint64_t index = 0)
      : state_(mix(seed + 0x9e3779b97f4a7c15u)) {  // unmixed, seed 1 "a" would be seed 2 "b"
    for (const char c : name) state_ = mix(state_ ^ (static_cast<unsigned char>(c) + 0x100u));
    state_ = mix(state_ ^ mix(index + 0x632be59bd9b4e019u));
  }

  std::uint64_t next() { return mix(state_ += 0x9e3779b97f4a7c15u); }

  double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }  // [0, 1)
  double uniform(double low, double high) { return low + (high - low) * uniform(); }

  // [0, n), n > 0; the bias of the multiply method is below n / 2^64.
  std::uint64_t below(std::uint64_t n) {
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint64_t>((static_cast<Wide>(next()) * n) >> 64);
  }

  double normal() {  // Box-Muller
    const double u = 1.0 - uniform();
    return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * uniform());
  }

 private:
  static std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::uint64_t state_;
};

}  // namespace filo
