#include "trainer/regions.hpp"

#include <algorithm>

namespace filo {
namespace {

std::uint32_t root_of(std::vector<std::uint32_t>& parents, std::uint32_t node) {
  while (parents[node] != node) {
    parents[node] = parents[parents[node]];
    node = parents[node];
  }
  return node;
}

// Numbers in their order of first pixels, without gaps.
std::vector<std::uint32_t> renumber(std::span<const std::uint8_t> mask, std::vector<std::uint32_t>& parents,
                                    std::span<std::uint32_t> regions) {
  std::vector<std::uint32_t> sizes, number(parents.size(), 0);
  for_each_defect(mask, [&](std::size_t pixel) {
    std::uint32_t& region = number[root_of(parents, regions[pixel])];
    if (region == 0) {
      sizes.push_back(0);
      region = static_cast<std::uint32_t>(sizes.size());
    }
    regions[pixel] = region;
    ++sizes[region - 1];
  });
  return sizes;
}

}  // namespace

std::vector<std::uint32_t> label_regions(std::span<const std::uint8_t> mask, std::size_t height, std::size_t width,
                                         std::span<std::uint32_t> regions) {
  std::vector<std::uint32_t> parents = {0};
  const auto join = [&](std::uint32_t& label, std::uint32_t neighbour) {
    if (neighbour == 0) return;
    const std::uint32_t root = root_of(parents, neighbour);
    if (label == 0) {
      label = root;
    } else {
      const std::uint32_t own = root_of(parents, label);
      parents[std::max(own, root)] = std::min(own, root);
      label = std::min(own, root);
    }
  };
  std::fill(regions.begin(), regions.end(), 0);
  for_each_defect(mask.first(height * width), [&](std::size_t pixel) {
    const std::size_t y = pixel / width, x = pixel % width;
    std::uint32_t label = 0;
    if (x > 0) join(label, regions[pixel - 1]);
    if (y > 0) {
      if (x > 0) join(label, regions[pixel - width - 1]);
      join(label, regions[pixel - width]);
      if (x + 1 < width) join(label, regions[pixel - width + 1]);
    }
    if (label == 0) {
      label = static_cast<std::uint32_t>(parents.size());
      parents.push_back(label);
    }
    regions[pixel] = label;
  });
  return renumber(mask, parents, regions);
}

}  // namespace filo
