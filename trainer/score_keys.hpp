// Scores as unsigned keys, and their sort.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace filo {

// Keys in the opposite order of the floats: ascending keys are descending scores. -0 equals +0. Not of NaN.
inline std::uint32_t descending_key(float score) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(score + 0.0f);
  return (bits & 0x80000000u) != 0 ? bits : ~(bits | 0x80000000u);
}

// A key, and something that goes with it below.
inline std::uint64_t entry_of(std::uint32_t key, std::uint32_t payload) {
  return static_cast<std::uint64_t>(key) << 32 | payload;
}
inline std::uint32_t key_of(std::uint64_t entry) { return static_cast<std::uint32_t>(entry >> 32); }
inline std::uint32_t key_of(std::uint32_t key) { return key; }
inline std::uint32_t payload_of(std::uint64_t entry) { return static_cast<std::uint32_t>(entry); }

// By key, stable: least significant digit first, three digits of 11, 11 and 10 bits. `other` is room for as many.
template <typename Entry>
void sort_by_key(std::vector<Entry>& entries, std::vector<Entry>& other) {
  constexpr std::size_t digits = 2048;
  constexpr std::array<unsigned, 3> shifts = {0, 11, 22};
  std::array<std::array<std::size_t, digits>, shifts.size()> places{};
  for (const Entry entry : entries)
    for (std::size_t i = 0; i < shifts.size(); ++i) ++places[i][key_of(entry) >> shifts[i] & (digits - 1)];
  other.resize(entries.size());
  for (std::size_t i = 0; i < shifts.size(); ++i) {
    std::size_t sum = 0;
    for (std::size_t& count : places[i]) sum += std::exchange(count, sum);
    for (const Entry entry : entries) other[places[i][key_of(entry) >> shifts[i] & (digits - 1)]++] = entry;
    entries.swap(other);
  }
}

}  // namespace filo
