// What the model says of the tiles of an image, as one image.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/json.hpp"
#include "data/images/tiles.hpp"

namespace filo {

// The outputs of an image's tiles, put together. An image that is not cut has one tile, and is what its output is.
class TiledImage {
 public:
  TiledImage(ImageSize image, std::vector<Tile> tiles) : image_(image), tiles_(std::move(tiles)) {}

  // The next tile's map [S, S], score, interpretation() and, where it is asked for, mask [S, S] of 0 and 1.
  void add(std::span<const float> map, float score, Json interpretation, std::span<const std::uint8_t> mask = {});
  bool is_complete() const { return scores_.size() == tiles_.size(); }

  float score() const;  // the largest of the tiles'
  // That of the tile with the largest score; of several each entry has "tile": [x, y, width, height].
  const Json& interpretation() const { return interpretation_; }
  // [size.height, size.width]
  std::vector<float> map(ImageSize size) const { return join_maps(image_, tiles_, maps_, side_, size); }
  std::vector<std::uint8_t> mask(ImageSize size) const;

 private:
  ImageSize image_;
  std::vector<Tile> tiles_;
  int side_ = 0;             // S
  std::vector<float> maps_;  // [tiles so far, S, S]
  std::vector<float> masks_;
  std::vector<float> scores_;
  Json interpretation_;
};

}  // namespace filo
