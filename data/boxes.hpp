// Boxes that a detector found in images, and the nine regions of an image that prompts name. Thread-safe.
//
// File: {IMAGE: [{"box": [x0, y0, x1, y1], "score": s, "phrase": "..."}]}, corners relative to the image's width and
// height. A detector's boxes may lie over the image's edges: corners from -1 to 2 are taken as they are.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"

namespace filo {

// How far over the image's edges corners may lie.
inline constexpr float lowest_corner = -1, highest_corner = 2;

struct Box {
  float x0 = 0, y0 = 0, x1 = 1, y1 = 1;  // x0 < x1, y0 < y1; 0 and 1 are the image's edges
  float score = 0;                       // 0..1
  // Words of the detector's caption that it was found for: none of them (""), or not told.
  std::optional<std::string> phrase = std::nullopt;
};

// Key: the image's path in its data set. Throws Error naming file, image and index: far outside the image (pixels in
// place of relative corners), upside down, not a number.
std::map<std::string, std::vector<Box>> read_boxes(const std::filesystem::path& path);
std::map<std::string, std::vector<Box>> boxes_from_json(const Json& json, const std::string& where);
std::vector<Box> box_list_from_json(const Json& list, const std::string& where);  // of one image
Json to_json(const std::map<std::string, std::vector<Box>>& boxes);

// The part of each box that lies in the image; a box without one is left out.
std::vector<Box> cut_to_image(const std::vector<Box>& boxes);

inline constexpr int position_count = 9;

// The region (thirds of width and height) that the centre of a box in the image lies in: row by row from the top left,
// 0..8; 4 is the center.
int position_of(const Box& box);

// "top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right"; asserts 0..8.
const std::string& position_name(int position);

}  // namespace filo
