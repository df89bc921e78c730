// Part of an image.
#pragma once

namespace filo {

// In pixels, x and y from the top left.
struct Tile {
  int x = 0, y = 0, width = 0, height = 0;
  bool operator==(const Tile&) const = default;
};

}  // namespace filo
