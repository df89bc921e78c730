// `evaluate:` of an experiment: what is measured on the test data set. What each setting means:
// docs/reference/experiment-file.md.
#pragma once

#include <string>

#include "base/json.hpp"

namespace filo {

struct Schema;

struct EvaluateSettings {
  int shots = 0;
  bool vision_language = true;  // false: patch matching alone (Table V), which needs shots
  double gaussian_sigma = 4;
  int heat_maps = 8;               // anomalous test images per class that get a PNG
  bool compare_untrained = false;  // also evaluate the freshly initialised model, at twice the time
};

// In the shape of the YAML, every key present; the inverse throws UsageError naming `where` and the key.
Json to_json(const EvaluateSettings& settings);
EvaluateSettings evaluate_settings_from_json(const Json& json, const std::string& where);

Schema evaluate_schema();
EvaluateSettings evaluate_settings_of(const Json& resolved);  // from a value that resolve() returned without problems

}  // namespace filo
