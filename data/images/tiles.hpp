// Large images as tiles: where they lie, and how what was found in each becomes one map again. Thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/images/image.hpp"
#include "data/tile.hpp"
#include "settings/model.hpp"

namespace filo {

// Row by row. As few tiles as cover the image with neighbours that share at least `tiling.overlap` of a side, evenly
// spread, the outer ones at its edges; a side of at most `tiling.size` is not cut. size 0: one tile, the image.
std::vector<Tile> tiles_of(ImageSize image, const TilingSettings& tiling);

Image cut_tile(const Image& image, const Tile& tile);  // that lies inside of the image

// Of the map of an image whose tiles have maps of side x side: as many of its pixels to a pixel of the image as they
// have.
ImageSize joined_size(ImageSize image, const TilingSettings& tiling, int side);

// The tiles' maps ([T, side, side]) as one, [size.height, size.width], scaled bilinearly. Where tiles overlap a map
// counts the more the farther it is from its tile's edge, so that there are no seams. Of one tile and its own size the
// map as it is.
std::vector<float> join_maps(ImageSize image, std::span<const Tile> tiles, std::span<const float> maps, int side,
                             ImageSize size);

}  // namespace filo
