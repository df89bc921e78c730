#include "base/random.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <set>

namespace filo {
namespace {

// Guards the generator's definition: data sets and initial weights must not change under users' feet.
// The first values of SplitMix64 from seed 1234567, as its author published them.
TEST(Random, IsSplitMix64) {
  Random random(1234567);
  EXPECT_EQ(random.next(), 6457827717110365317u);
  EXPECT_EQ(random.next(), 3203168211198807973u);
  EXPECT_EQ(random.next(), 9817491932198370423u);
  EXPECT_EQ(random.next(), 4593380528125082431u);
  EXPECT_EQ(random.next(), 16408922859458223821u);
}

// Guards that streams differ by seed, by name and by index, and not by the order in which they are used.
TEST(Random, EachSeedNameAndIndexIsAStreamOfItsOwn) {
  std::set<std::uint64_t> firsts;
  for (const std::uint64_t seed : {0u, 1u, 2u})
    for (const char* name : {"", "a", "b", "ab", "ba"})
      for (const std::uint64_t index : {0u, 1u, 2u}) firsts.insert(Random(seed, name, index).next());
  EXPECT_EQ(firsts.size(), 3u * 5u * 3u);
  EXPECT_EQ(Random(7, "masks", 3).next(), Random(7, "masks", 3).next());
}

// Guards the range of each kind of number.
TEST(Random, NumbersStayInTheirRange) {
  Random random(1);
  std::array<int, 7> counts{};
  for (int i = 0; i < 70'000; ++i) {
    const double unit = random.uniform();
    ASSERT_GE(unit, 0.0);
    ASSERT_LT(unit, 1.0);
    const double between = random.uniform(-3, -2);
    ASSERT_GE(between, -3.0);
    ASSERT_LT(between, -2.0);
    ++counts.at(random.below(7));
  }
  for (const int count : counts) EXPECT_NEAR(count, 10'000, 500);  // five standard deviations
  EXPECT_EQ(random.below(1), 0u);
}

// Guards the normal distribution's moments.
TEST(Random, NormalHasMeanZeroAndVarianceOne) {
  Random random(2);
  double sum = 0;
  double squares = 0;
  double fourth = 0;
  constexpr int n = 200'000;
  for (int i = 0; i < n; ++i) {
    const double x = random.normal();
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
  }
  EXPECT_NEAR(sum / n, 0, 0.012);
  EXPECT_NEAR(squares / n, 1, 0.016);
  EXPECT_NEAR(fourth / n, 3, 0.11);
}

}  // namespace
}  // namespace filo
