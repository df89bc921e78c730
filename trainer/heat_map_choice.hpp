// Which test images of a class get a heat map.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace filo {

struct ChosenHeatMap {
  std::string why;        // "worst-1", "best-2", "random-1"; numbers of equal width
  std::size_t image = 0;  // its number in the class
};

// `count` of them, in thirds, what is over going to the worst and then to the best; fewer where the class is smaller.
//
// An image's margin is how far its score is on the right side of the threshold with the largest F1: score - threshold
// of an anomalous image, threshold - score of a normal one. The worst have the smallest margins (misses and false
// alarms first), the best the largest of what is left; random ones are drawn from all images, so that one may be among
// the worst too, by the class's name alone. `labels`: 0 or 1, as many as scores.
std::vector<ChosenHeatMap> choose_heat_maps(std::span<const float> scores, std::span<const std::uint8_t> labels,
                                            const std::string& class_name, int count);

}  // namespace filo
