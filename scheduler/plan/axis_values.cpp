#include "scheduler/plan/axis_values.hpp"

#include <algorithm>
#include <iterator>

namespace filo {

std::string plain_text(const Json& axis_value) {
  return axis_value.is_string() ? axis_value.get<std::string>() : axis_value.dump();
}

std::string short_key(const std::string& dotted_key) {
  for (const char* whole : {"evaluate.seed", "evaluate.filter", "evaluate.positions"})
    if (dotted_key == whole) return dotted_key;
  return dotted_key.substr(dotted_key.rfind('.') + 1);
}

bool is_seed(const std::string& dotted_key) {
  return std::find(std::begin(seed_keys), std::end(seed_keys), dotted_key) != std::end(seed_keys);
}

std::string describe_axis_values(const std::map<std::string, Json>& axis_values) {
  std::string text;
  if (const auto name = axis_values.find("name"); name != axis_values.end()) {
    text = plain_text(name->second);
    for (const char* key : seed_keys)
      if (const auto seed = axis_values.find(key); seed != axis_values.end())
        text += ", " + short_key(key) + "=" + plain_text(seed->second);
    return text;
  }
  for (const auto& [key, value] : axis_values)
    text += (text.empty() ? "" : ", ") + short_key(key) + "=" + plain_text(value);
  return text;
}

}  // namespace filo
