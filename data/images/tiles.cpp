#include "data/images/tiles.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace filo {
namespace {

// Where the tiles of a side begin.
std::vector<int> begins_of(int length, const TilingSettings& tiling) {
  const int count = tiles_along(tiling, length);
  std::vector<int> begins = {0};
  for (int i = 1; i < count; ++i)
    begins.push_back(static_cast<int>(std::lround(static_cast<double>(length - tiling.size) * i / (count - 1))));
  return begins;
}

// What a pixel of the joined map takes from a tile's, along one side.
struct Source {
  int low = 0, high = 0;  // pixels of the tile's map
  float share = 0;        // of `high`
  float weight = 0;       // of the tile: its distance from the tile's nearer edge
};

struct Side {
  int begin = 0;  // in the joined map
  std::vector<Source> sources;
};

// `length`: of the image, `size`: of the joined map, `begin` and `tile`: of the tile in the image.
Side side_of(int length, int size, int begin, int tile, int side) {
  Side result;
  for (int i = 0; i < size; ++i) {
    const double inside = (i + 0.5) * length / size - begin;  // pixels of the image from the tile's begin
    if (inside < 0 || inside >= tile) continue;
    if (result.sources.empty()) result.begin = i;
    const double at = std::clamp(inside * side / tile - 0.5, 0.0, side - 1.0);
    const int low = static_cast<int>(at);
    result.sources.push_back({.low = low,
                              .high = std::min(low + 1, side - 1),
                              .share = static_cast<float>(at - low),
                              .weight = static_cast<float>(std::max(std::min(inside, tile - inside), 1e-3))});
  }
  return result;
}

}  // namespace

std::vector<Tile> tiles_of(ImageSize image, const TilingSettings& tiling) {
  std::vector<Tile> tiles;
  const auto side_of_tile = [&](int length) { return tiling.size == 0 ? length : std::min(length, tiling.size); };
  for (const int y : begins_of(image.height, tiling))
    for (const int x : begins_of(image.width, tiling))
      tiles.push_back({x, y, side_of_tile(image.width), side_of_tile(image.height)});
  return tiles;
}

Image cut_tile(const Image& image, const Tile& tile) {
  Image part(tile.width, tile.height, image.channels);
  const auto row = static_cast<std::size_t>(tile.width) * static_cast<std::size_t>(image.channels);
  for (int y = 0; y < tile.height; ++y)
    std::copy_n(image.pixels.data() + image.offset(tile.x, tile.y + y), row, part.pixels.data() + part.offset(0, y));
  return part;
}

ImageSize joined_size(ImageSize image, const TilingSettings& tiling, int side) {
  const auto scaled = [&](int length) {
    if (tiles_along(tiling, length) == 1) return side;
    return static_cast<int>(std::lround(static_cast<double>(length) * side / tiling.size));
  };
  return {scaled(image.width), scaled(image.height)};
}

std::vector<float> join_maps(ImageSize image, std::span<const Tile> tiles, std::span<const float> maps, int side,
                             ImageSize size) {
  const std::size_t area = static_cast<std::size_t>(side) * static_cast<std::size_t>(side);
  assert(maps.size() == tiles.size() * area);
  if (tiles.size() == 1 && size == ImageSize{side, side}) return {maps.begin(), maps.end()};
  const auto width = static_cast<std::size_t>(size.width);
  std::vector<float> sums(width * static_cast<std::size_t>(size.height)), weights(sums.size());
  for (std::size_t number = 0; number < tiles.size(); ++number) {
    const Tile& tile = tiles[number];
    const float* map = maps.data() + number * area;
    const Side across = side_of(image.width, size.width, tile.x, tile.width, side);
    const Side down = side_of(image.height, size.height, tile.y, tile.height, side);
    for (std::size_t row = 0; row < down.sources.size(); ++row) {
      const Source& vertical = down.sources[row];
      const float* upper = map + static_cast<std::size_t>(vertical.low) * static_cast<std::size_t>(side);
      const float* lower = map + static_cast<std::size_t>(vertical.high) * static_cast<std::size_t>(side);
      const std::size_t begin =
          (static_cast<std::size_t>(down.begin) + row) * width + static_cast<std::size_t>(across.begin);
      for (std::size_t column = 0; column < across.sources.size(); ++column) {
        const Source& horizontal = across.sources[column];
        const float above = std::lerp(upper[horizontal.low], upper[horizontal.high], horizontal.share);
        const float below = std::lerp(lower[horizontal.low], lower[horizontal.high], horizontal.share);
        const float weight = vertical.weight * horizontal.weight;
        sums[begin + column] += weight * std::lerp(above, below, vertical.share);
        weights[begin + column] += weight;
      }
    }
  }
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] /= weights[i];
  return sums;
}

}  // namespace filo
