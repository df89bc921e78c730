#include "trainer/heat_map_choice.hpp"

#include <gtest/gtest.h>

#include <set>

namespace filo {
namespace {

std::string told(const std::vector<ChosenHeatMap>& chosen) {
  std::string text;
  for (const auto& [why, image] : chosen) text += why + "=" + std::to_string(image) + " ";
  return text;
}

// Images 0 to 3 are normal, 4 to 7 anomalous. The threshold of the largest F1 is 0.4: image 3 is a false alarm, 4 a
// miss.
const std::vector<float> scores = {0.1f, 0.2f, 0.3f, 0.9f, 0.05f, 0.4f, 0.6f, 0.8f};
const std::vector<std::uint8_t> labels = {0, 0, 0, 0, 1, 1, 1, 1};

// Guards: misses and false alarms alike are the worst, whatever the label; the share of each kind.
TEST(HeatMapChoice, TheWorstAndTheBestGoByTheirMargin) {
  EXPECT_EQ(told(choose_heat_maps(scores, labels, "cup", 1)), "worst-1=3 ");
  EXPECT_EQ(told(choose_heat_maps(scores, labels, "cup", 2)), "worst-1=3 best-1=7 ");
  const auto five = choose_heat_maps(scores, labels, "cup", 5);
  ASSERT_EQ(five.size(), 5u);
  EXPECT_EQ(told({five.begin(), five.begin() + 4}), "worst-1=3 worst-2=4 best-1=7 best-2=0 ");
  EXPECT_EQ(five[4].why, "random-1");
  EXPECT_TRUE(choose_heat_maps(scores, labels, "cup", 0).empty());
}

// Guards: random images are of all, the same in every run, and others in another class.
TEST(HeatMapChoice, RandomImagesGoByTheClassAlone) {
  const std::vector<float> many(1000, 0.5f);
  std::vector<std::uint8_t> half(1000, 0);
  std::fill(half.begin(), half.begin() + 500, 1);
  const auto cup = told(choose_heat_maps(many, half, "cup", 300));
  EXPECT_EQ(cup, told(choose_heat_maps(many, half, "cup", 300)));
  EXPECT_NE(cup, told(choose_heat_maps(many, half, "nut", 300)));
  std::set<std::size_t> drawn;
  for (const auto& [why, image] : choose_heat_maps(many, half, "cup", 300))
    if (why.starts_with("random")) drawn.insert(image);
  EXPECT_EQ(drawn.size(), 100u);
  EXPECT_GT(*drawn.rbegin(), 900u);
}

// Guards: small and one-sided classes.
TEST(HeatMapChoice, ClassesMayBeSmallAndOneSided) {
  EXPECT_TRUE(choose_heat_maps({}, {}, "cup", 8).empty());
  const auto three = choose_heat_maps(std::span(scores).first(3), std::span(labels).first(3), "cup", 12);
  EXPECT_EQ(told({three.begin(), three.begin() + 3}), "worst-1=2 worst-2=1 worst-3=0 ");
  EXPECT_EQ(three.size(), 6u);
  const auto anomalous = choose_heat_maps(std::span(scores).last(4), std::span(labels).last(4), "cup", 2);
  EXPECT_EQ(told(anomalous), "worst-1=0 best-1=3 ");
}

}  // namespace
}  // namespace filo
