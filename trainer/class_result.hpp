// What an evaluation finds of one class of the test data set, and what is made of it: metrics and heat maps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
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

// Some of a class's images, as one rank sends them to the rank that makes the class's metrics. `places`: of the images
// in the class. Throws Error where the bytes are not of this form.
struct ClassPart {
  std::vector<std::size_t> places;
  ClassResult result;
};
std::string to_bytes(const ClassPart& part);
ClassPart class_part_from_bytes(const std::string& bytes);

// A class of `images` images, all of which are still to come; place() puts a part's where they belong.
ClassResult empty_class(std::size_t images, int size);
void place(ClassResult& whole, const ClassPart& part);

// {"image_auroc", ..., "aupro", "images": N}; a metric that is undefined (no anomalous image, say) is null.
Json metrics_of(const ClassResult& result);

// The mean over classes of every metric; a class where one is undefined is left out of its mean. `classes`: {NAME:
// metrics_of()}.
Json mean_over_classes(const Json& classes);

// PNG files by name, for the first `count` anomalous images: the photo with the true defect outlined, beside it the
// photo under its anomaly map, all maps of the class on one scale. `root`: of the data set.
std::map<std::string, std::string> heat_maps_of(const ClassResult& result, const std::filesystem::path& root,
                                                int count);

}  // namespace filo
