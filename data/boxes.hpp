// Boxes that a detector found in images, and the nine regions of an image that prompts name. Thread-safe.
//
// File: {IMAGE: [{"box": [x0, y0, x1, y1], "score": s, "phrase": "..."}]}, corners relative to the image's width and
// height.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/json.hpp"

namespace filo {

struct Box {
  float x0 = 0, y0 = 0, x1 = 1, y1 = 1;  // 0 <= x0 < x1 <= 1, 0 <= y0 < y1 <= 1
  float score = 0;                       // 0..1
  std::string phrase;                    // the description that it was found for; may be empty
};

// Key: the image's path in its data set. Throws Error naming file, image and index: outside the image, upside down, not
// a number.
std::map<std::string, std::vector<Box>> read_boxes(const std::filesystem::path& path);
std::map<std::string, std::vector<Box>> boxes_from_json(const Json& json, const std::string& where);
Json to_json(const std::map<std::string, std::vector<Box>>& boxes);

inline constexpr int position_count = 9;

// The region (thirds of width and height) that the box's centre lies in: row by row from the top left, 0..8; 4 is the
// center.
int position_of(const Box& box);

// "top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right"; asserts 0..8.
const std::string& position_name(int position);

}  // namespace filo
