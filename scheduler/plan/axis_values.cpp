#include "scheduler/plan/axis_values.hpp"

namespace filo {

std::string plain_text(const Json& axis_value) {
  return axis_value.is_string() ? axis_value.get<std::string>() : axis_value.dump();
}

std::string short_key(const std::string& dotted_key) { return dotted_key.substr(dotted_key.rfind('.') + 1); }

std::string describe_axis_values(const std::map<std::string, Json>& axis_values) {
  std::string text;
  if (const auto name = axis_values.find("name"); name != axis_values.end()) {
    text = plain_text(name->second);
    if (const auto seed = axis_values.find("train.seed"); seed != axis_values.end())
      text += ", seed=" + plain_text(seed->second);
    return text;
  }
  for (const auto& [key, value] : axis_values)
    text += (text.empty() ? "" : ", ") + short_key(key) + "=" + plain_text(value);
  return text;
}

}  // namespace filo
