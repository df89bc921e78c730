#include "trainer/tiled_image.hpp"

#include <algorithm>
#include <cmath>

namespace filo {

void TiledImage::add(std::span<const float> map, float score, Json interpretation, std::span<const std::uint8_t> mask) {
  side_ = static_cast<int>(std::lround(std::sqrt(static_cast<double>(map.size()))));
  maps_.insert(maps_.end(), map.begin(), map.end());
  masks_.insert(masks_.end(), mask.begin(), mask.end());
  const Tile& tile = tiles_.at(scores_.size());
  if (scores_.empty() || score > this->score()) {
    interpretation_ = std::move(interpretation);
    if (tiles_.size() > 1)
      for (Json& entry : interpretation_) entry["tile"] = {tile.x, tile.y, tile.width, tile.height};
  }
  scores_.push_back(score);
}

float TiledImage::score() const { return *std::ranges::max_element(scores_); }

std::vector<std::uint8_t> TiledImage::mask(ImageSize size) const {
  const std::vector<float> shares = join_maps(image_, tiles_, masks_, side_, size);
  std::vector<std::uint8_t> mask(shares.size());
  std::ranges::transform(shares, mask.begin(), [](float share) { return share > 0.5f ? 1 : 0; });
  return mask;
}

}  // namespace filo
