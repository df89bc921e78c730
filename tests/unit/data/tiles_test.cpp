#include "data/images/tiles.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace filo {
namespace {

constexpr ImageSize large = {8000, 2000};

// Guards: every pixel lies in a tile, neighbours overlap as much as asked for, and no more tiles are made than that
// takes.
TEST(Tiles, CoverTheImage) {
  for (const double overlap : {0.0, 0.25, 0.5}) {
    const auto tiles = tiles_of(large, {.size = 1024, .overlap = overlap});
    const auto count = [&](int length) { return std::ceil((length - 1024) / (1024 * (1 - overlap))) + 1; };
    EXPECT_EQ(static_cast<double>(tiles.size()), count(8000) * count(2000));
    std::vector<int> lefts, tops;
    for (const Tile& tile : tiles) {
      EXPECT_EQ(tile.width, 1024);
      EXPECT_EQ(tile.height, 1024);
      if (tile.y == 0) lefts.push_back(tile.x);
      if (tile.x == 0) tops.push_back(tile.y);
    }
    for (const auto& [begins, length] : {std::pair(lefts, 8000), std::pair(tops, 2000)}) {
      EXPECT_EQ(begins.front(), 0);
      EXPECT_EQ(begins.back(), length - 1024);
      for (std::size_t i = 1; i < begins.size(); ++i)
        EXPECT_GE(begins[i - 1] + 1024 - begins[i], std::floor(overlap * 1024) - 1);
    }
  }
}

TEST(Tiles, SmallSidesAreNotCut) {
  EXPECT_EQ(tiles_of({800, 600}, {.size = 1024, .overlap = 0.25}), (std::vector<Tile>{{0, 0, 800, 600}}));
  EXPECT_EQ(tiles_of(large, {.size = 0, .overlap = 0.25}), (std::vector<Tile>{{0, 0, 8000, 2000}}));
  for (const Tile& tile : tiles_of({3000, 600}, {.size = 1024, .overlap = 0})) {
    EXPECT_EQ(tile.y, 0);
    EXPECT_EQ(tile.height, 600);
  }
  EXPECT_EQ(joined_size({3000, 600}, {.size = 1024}, 518), (ImageSize{1518, 518}));
  EXPECT_EQ(joined_size({800, 600}, {.size = 1024}, 518), (ImageSize{518, 518}));
}

// Guards the blending: tiles that were cut from one smooth picture, each scaled to its map, become that picture again,
// with no step where a tile ends; a map of a whole image stays what it is, bit for bit.
TEST(Tiles, MapsOfTilesAreOneMap) {
  constexpr int side = 64, size = 128;
  constexpr ImageSize image = {500, 300};
  const auto picture = [](double x, double y) { return static_cast<float>(std::sin(x / 60) * std::cos(y / 45)); };
  const auto tiles = tiles_of(image, {.size = size, .overlap = 0.25});
  ASSERT_GT(tiles.size(), 10u);
  std::vector<float> maps;
  for (const Tile& tile : tiles)
    for (int y = 0; y < side; ++y)
      for (int x = 0; x < side; ++x)
        maps.push_back(picture(tile.x + (x + 0.5) * size / side, tile.y + (y + 0.5) * size / side));
  const ImageSize joined = joined_size(image, {.size = size}, side);
  EXPECT_EQ(joined, (ImageSize{250, 150}));
  const std::vector<float> found = join_maps(image, tiles, maps, side, joined);
  ASSERT_EQ(found.size(), 250u * 150u);
  float worst = 0;
  for (int y = 0; y < joined.height; ++y)
    for (int x = 0; x < joined.width; ++x) {
      const float expected = picture((x + 0.5) * 2, (y + 0.5) * 2);
      worst = std::max(worst, std::abs(found[static_cast<std::size_t>(y) * static_cast<std::size_t>(joined.width) +
                                             static_cast<std::size_t>(x)] -
                                       expected));
    }
  EXPECT_LT(worst, 0.02f);

  const std::vector<float> one(maps.begin(), maps.begin() + std::ptrdiff_t{side} * side);
  EXPECT_EQ(join_maps({100, 100}, std::vector<Tile>{{0, 0, 100, 100}}, one, side, {side, side}), one);
}

// Guards seams: two tiles that disagree change over smoothly where they overlap.
TEST(Tiles, DisagreeingTilesAreBlended) {
  constexpr int side = 8;
  const std::vector<Tile> tiles = {{0, 0, 80, 80}, {40, 0, 80, 80}};
  std::vector<float> maps(std::size_t{side} * side, 0.0f);
  maps.resize(std::size_t{2} * side * side, 1.0f);
  const std::vector<float> found = join_maps({120, 80}, tiles, maps, side, {12, 8});
  const std::vector<float> row(found.begin(), found.begin() + 12);
  EXPECT_FLOAT_EQ(row[0], 0.0f);
  EXPECT_FLOAT_EQ(row[11], 1.0f);
  for (std::size_t i = 4; i < 8; ++i) EXPECT_NEAR(row[i], (static_cast<float>(i) - 3.5f) / 4, 1e-5f);
}

}  // namespace
}  // namespace filo
