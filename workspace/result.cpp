#include "workspace/result.hpp"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <limits>

#include "base/error.hpp"

namespace filo {
namespace {

bool stays_inside(const std::string& relative) {
  const std::filesystem::path path = relative;
  if (path.empty() || path.is_absolute()) return false;
  return std::none_of(path.begin(), path.end(), [](const auto& part) { return part == ".."; });
}

std::optional<StageKind> kind_of(const Json& json) {
  try {
    return stage_kind(text_of(json, "kind"));
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

Json to_json(const StageResult& result) {
  return {{"stage", result.stage},           {"kind", to_string(result.kind)}, {"attempt", result.attempt},
          {"world_size", result.world_size}, {"threads", result.threads},      {"device", result.device},
          {"seconds", result.seconds},       {"metrics", result.metrics},      {"artifacts", result.artifacts}};
}

std::optional<StageResult> stage_result_from_json(const Json& json) {
  const auto kind = kind_of(json);
  if (!kind || !json.contains("attempt") || !json["attempt"].is_number_integer()) return std::nullopt;
  StageResult result{.stage = text_of(json, "stage"), .kind = *kind};
  const auto attempt = json["attempt"].get<std::int64_t>();
  if (attempt < 1 || attempt > std::numeric_limits<int>::max()) return std::nullopt;
  result.attempt = static_cast<int>(attempt);
  result.world_size = static_cast<int>(number_of(json, "world_size", 1));
  result.threads = static_cast<int>(number_of(json, "threads", 1));
  result.device = text_of(json, "device", result.device);
  result.seconds = number_of(json, "seconds");
  result.metrics = json.value("metrics", Json::object());
  const Json artifacts = json.value("artifacts", Json::object());
  if (!result.metrics.is_object() || !artifacts.is_object()) return std::nullopt;
  for (const auto& [name, path] : artifacts.items())
    if (path.is_string() && stays_inside(path)) result.artifacts[name] = path;
  return result;
}

}  // namespace filo
