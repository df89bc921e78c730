#include "data/boxes.hpp"

#include <algorithm>
#include <array>
#include <cassert>

#include "base/error.hpp"

namespace filo {

namespace {

float number(const Json& value, double low, double high, const std::string& expected, const std::string& where) {
  if (!value.is_number()) throw Error(where, "is not a number");
  const auto result = value.get<double>();
  if (!(result >= low && result <= high)) throw Error(where, "is " + value.dump() + ", expected " + expected);
  return static_cast<float>(result);
}

float corner(const Json& value, const std::string& where) {
  return number(value, lowest_corner, highest_corner,
                "a corner relative to the image, 0 to 1 (over its edges, -1 to 2), not in pixels", where);
}

Box box_from_json(const Json& json, const std::string& where) {
  if (!json.is_object() || !json.contains("box") || !json["box"].is_array() || json["box"].size() != 4)
    throw Error(where, "has no \"box\" of four numbers [x0, y0, x1, y1]");
  Box box;
  const Json& corners = json["box"];
  const std::array<float*, 4> targets = {&box.x0, &box.y0, &box.x1, &box.y1};
  for (std::size_t i = 0; i < 4; ++i) *targets[i] = corner(corners[i], where + ": box[" + std::to_string(i) + "]");
  if (box.x1 <= box.x0 || box.y1 <= box.y0)
    throw Error(where + ": box", "is upside down or empty (" + corners.dump() + "), expected x0 < x1 and y0 < y1");
  if (!json.contains("score")) throw Error(where + ": score", "is missing");
  box.score = number(json["score"], 0, 1, "0 to 1", where + ": score");
  if (json.contains("phrase")) {
    if (!json["phrase"].is_string()) throw Error(where + ": phrase", "is not text");
    box.phrase = json["phrase"].get<std::string>();
  }
  return box;
}

}  // namespace

std::vector<Box> box_list_from_json(const Json& list, const std::string& where) {
  if (!list.is_array()) throw Error(where, "is not a list of boxes");
  std::vector<Box> boxes;
  for (std::size_t i = 0; i < list.size(); ++i)
    boxes.push_back(box_from_json(list[i], where + "[" + std::to_string(i) + "]"));
  return boxes;
}

std::map<std::string, std::vector<Box>> boxes_from_json(const Json& json, const std::string& where) {
  if (!json.is_object()) throw Error(where, "is not an object of image paths");
  std::map<std::string, std::vector<Box>> boxes;
  for (const auto& [image, list] : json.items()) boxes[image] = box_list_from_json(list, where + ": " + image);
  return boxes;
}

std::map<std::string, std::vector<Box>> read_boxes(const std::filesystem::path& path) {
  return boxes_from_json(read_json(path), "boxes: " + path.string());
}

Json to_json(const std::map<std::string, std::vector<Box>>& boxes) {
  Json json = Json::object();
  for (const auto& [image, list] : boxes) {
    json[image] = Json::array();
    for (const Box& box : list) {
      json[image].push_back({{"box", {box.x0, box.y0, box.x1, box.y1}}, {"score", box.score}});
      if (box.phrase) json[image].back()["phrase"] = *box.phrase;
    }
  }
  return json;
}

std::vector<Box> cut_to_image(const std::vector<Box>& boxes) {
  std::vector<Box> cut;
  for (Box box : boxes) {
    for (float* side : {&box.x0, &box.y0, &box.x1, &box.y1}) *side = std::clamp(*side, 0.0f, 1.0f);
    if (box.x0 < box.x1 && box.y0 < box.y1) cut.push_back(std::move(box));
  }
  return cut;
}

int position_of(const Box& box) {
  const auto third = [](float low, float high) { return std::clamp(static_cast<int>((low + high) * 1.5f), 0, 2); };
  return 3 * third(box.y0, box.y1) + third(box.x0, box.x1);
}

const std::string& position_name(int position) {
  static const std::array<std::string, position_count> names = {
      "top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right"};
  assert(position >= 0 && position < position_count);
  return names[static_cast<std::size_t>(position)];
}

}  // namespace filo
