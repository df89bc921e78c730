#include "settings/experiment/types.hpp"

#include <algorithm>

namespace filo {

std::vector<std::string> Grid::varied_keys() const {
  std::vector<std::string> keys;
  const auto add = [&](const std::string& key) {
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
  };
  for (const auto& group : groups)
    for (const auto& key : group.keys) add(key);
  for (const auto& point : points)
    for (const auto& [key, value] : point.values) add(key);
  for (const auto& group : repeats)
    for (const auto& key : group.keys) add(key);
  return keys;
}

bool Condition::matches(const std::string& fold, const std::map<std::string, Json>& axis_values) const {
  return std::all_of(values.begin(), values.end(), [&](const auto& condition) {
    if (condition.first == "fold") return condition.second == fold;
    const auto found = axis_values.find(condition.first);
    return found != axis_values.end() && found->second == condition.second;
  });
}

std::string Experiment::place(const std::string& dotted_key) const {
  const SourceValue* written = source.find_dotted(dotted_key);
  const auto& file = files.at(static_cast<std::size_t>(written == nullptr ? 0 : written->file));
  return "settings: " + file + (written == nullptr ? "" : ":" + std::to_string(written->line)) + ": " + dotted_key;
}

}  // namespace filo
