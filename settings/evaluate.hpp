// `evaluate:` of an experiment: what is measured on the test data set. What each setting means:
// docs/reference/experiment-file.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "settings/model.hpp"

namespace filo {

struct Schema;

struct EvaluateSettings {
  int shots = 0;
  std::optional<std::uint64_t> seed;  // decides which images `shots` draws; unset: the training's
  bool vision_language = true;        // false: patch matching alone (Table V), which needs shots
  double gaussian_sigma = 4;
  // Unset: as in model.prompts and model.boxes.source, with which was trained.
  std::optional<bool> filter;
  std::optional<PositionSource> positions;
  std::optional<BoxSource> boxes;
  std::vector<double> aupro_fpr = {0.3, 0.05};  // false positive rates up to which AUPRO is taken
  int heat_maps = 8;               // test images per class that get a PNG: the worst, the best, random ones
  bool compare_untrained = false;  // also evaluate the freshly initialised model, at twice the time
};

// In the shape of the YAML, without what is unset and `aupro` at its default; the inverse throws UsageError naming
// `where` and the key.
Json to_json(const EvaluateSettings& settings);
EvaluateSettings evaluate_settings_from_json(const Json& json, const std::string& where);

Schema evaluate_schema();
EvaluateSettings evaluate_settings_of(const Json& resolved);  // from a value that resolve() returned without problems

// The model that is evaluated, where `trained` says what was trained.
ModelSettings evaluated_model(ModelSettings trained, const EvaluateSettings& settings);

}  // namespace filo
