// The connected regions of a mask.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace filo {

// use(pixel) for each pixel whose mask is not 0, in order. Most masks are 0 nearly everywhere: eight pixels at a time.
template <typename Use>
void for_each_defect(std::span<const std::uint8_t> mask, const Use& use) {
  std::uint64_t eight = 0;
  for (std::size_t i = 0; i < mask.size();) {
    if (i + sizeof(eight) <= mask.size()) {
      std::memcpy(&eight, mask.data() + i, sizeof(eight));
      if (eight == 0) {
        i += sizeof(eight);
        continue;
      }
    }
    for (const std::size_t end = std::min(i + sizeof(eight), mask.size()); i < end; ++i)
      if (mask[i] != 0) use(i);
  }
}

// By 8-neighbourhood. `mask`, `regions`: [height, width], below 2^32 pixels. `regions` gets 0 where the mask is 0, else
// the number of the region, from 1 on; returns each region's pixel count, that of region i at [i - 1].
std::vector<std::uint32_t> label_regions(std::span<const std::uint8_t> mask, std::size_t height, std::size_t width,
                                         std::span<std::uint32_t> regions);

}  // namespace filo
