// What an evaluation finds of one class of the test data set, and what is made of it: metrics and heat maps.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.hpp"

namespace filo {

// N images; S the side of a map in pixels.
struct ClassResult {
  int size = 0;                     // S
  std::vector<std::string> images;  // paths relative to the data set's root
  std::vector<float> scores;
  std::vector<std::uint8_t> labels;       // 1: anomalous
  std::vector<float> maps;                // [N, S, S]
  std::vector<std::uint8_t> masks;        // [N, S, S], 0 or 1
  Json interpretations = Json::object();  // image -> interpretation()
};

// {"image_auroc", ..., "aupro", "images": N}; a metric that is undefined (no anomalous image, say) is null.
Json metrics_of(const ClassResult& result);

// The mean over classes of every metric; a class where one is undefined is left out of its mean. `classes`: {NAME:
// metrics_of()}.
Json mean_over_classes(const Json& classes);

// FOLDER/IMAGE.png for the first `count` anomalous images: the photo with the true defect outlined, beside it the photo
// under its anomaly map, all maps of the class on one scale. `root`: of the data set.
void write_heat_maps(const std::filesystem::path& folder, const ClassResult& result, const std::filesystem::path& root,
                     int count);

}  // namespace filo
