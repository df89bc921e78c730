#include "data/shards/half.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.hpp"
#include "base/random.hpp"

namespace filo {
namespace {

std::vector<std::uint16_t> all_halves() {
  std::vector<std::uint16_t> bits(65536);
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<std::uint16_t>(i);
  return bits;
}

// Guards every one of the 65,536 values, both ways, in the vectorised and the plain path.
TEST(Half, EveryValueSurvivesTheRoundTrip) {
  const auto bits = all_halves();
  std::vector<float> floats(bits.size());
  half_to_float(bits, floats);
  std::vector<std::uint16_t> back(bits.size());
  float_to_half(floats, back);
  for (std::size_t i = 0; i < bits.size(); ++i) {
    const bool nan = (bits[i] & 0x7c00) == 0x7c00 && (bits[i] & 0x3ff) != 0;
    const std::uint16_t expected = nan ? bits[i] | 0x200 : bits[i];
    ASSERT_EQ(back[i], expected) << i;
    ASSERT_EQ(float_to_half(floats[i]), expected) << i;
    ASSERT_EQ(std::bit_cast<std::uint32_t>(half_to_float(bits[i])), std::bit_cast<std::uint32_t>(floats[i])) << i;
  }
}

// Guards round-to-nearest-even: between each two neighbours, the middle goes to the even one, a hair beside it to the
// nearer.
TEST(Half, MiddlesRoundToEven) {
  for (std::uint16_t low = 0; low < 0x7bff; ++low) {
    const auto high = static_cast<std::uint16_t>(low + 1);
    const float middle = static_cast<float>((static_cast<double>(half_to_float(low)) + half_to_float(high)) / 2);
    ASSERT_EQ(float_to_half(middle), low % 2 == 0 ? low : high) << low;
    ASSERT_EQ(float_to_half(std::nextafter(middle, 0.0f)), low) << low;
    ASSERT_EQ(float_to_half(std::nextafter(middle, 1e9f)), high) << low;
    ASSERT_EQ(float_to_half(-middle), 0x8000 | (low % 2 == 0 ? low : high)) << low;
  }
}

TEST(Half, EdgesAreExact) {
  EXPECT_EQ(float_to_half(65504.0f), 0x7bff);
  EXPECT_EQ(float_to_half(std::nextafter(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(float_to_half(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_half(-std::numeric_limits<float>::infinity()), 0xfc00);
  EXPECT_EQ(float_to_half(0x1p-24f), 1);
  EXPECT_EQ(float_to_half(0x1p-25f), 0);
  EXPECT_EQ(float_to_half(std::nextafter(0x1p-25f, 1.0f)), 1);
  EXPECT_EQ(float_to_half(std::numeric_limits<float>::denorm_min()), 0);
  EXPECT_EQ(float_to_half(-0.0f), 0x8000);
  EXPECT_TRUE(std::isnan(half_to_float(float_to_half(std::numeric_limits<float>::quiet_NaN()))));
}

// Guards that machines with and without F16C make the same shards: arbitrary bits, odd lengths.
TEST(Half, VectorisedEqualsPlain) {
  Random random(5);
  std::vector<float> floats(100003);
  for (float& value : floats) value = std::bit_cast<float>(static_cast<std::uint32_t>(random.next()));
  std::vector<std::uint16_t> bits(floats.size());
  float_to_half(floats, bits);
  for (std::size_t i = 0; i < floats.size(); ++i) ASSERT_EQ(bits[i], float_to_half(floats[i])) << floats[i];
  EXPECT_THROW(float_to_half(floats, std::span(bits).first(3)), Error);
}

}  // namespace
}  // namespace filo
