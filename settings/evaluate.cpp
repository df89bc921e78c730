#include "settings/evaluate.hpp"

#include "settings/schema.hpp"

namespace filo {
namespace {

void check_evaluate(const Json& evaluate, const Schema::Complain& complain) {
  if (!evaluate.at("vision_language").get<bool>() && evaluate.at("shots") == 0)
    complain("vision_language", "found false with shots: 0, expected shots, which patch matching compares with");
}

}  // namespace

Schema evaluate_schema() {
  const EvaluateSettings fallback;
  Schema schema = Schema::record({
      {"shots", Schema::integer(fallback.shots, 0, 10000)},
      {"vision_language", Schema::boolean(fallback.vision_language)},
      {"gaussian_sigma", Schema::number(fallback.gaussian_sigma, 0, 1000)},
      {"heat_maps", Schema::integer(fallback.heat_maps, 0)},
      {"compare_untrained", Schema::boolean(fallback.compare_untrained)},
  });
  schema.record_check = check_evaluate;
  return schema;
}

EvaluateSettings evaluate_settings_of(const Json& json) {
  return {.shots = json.at("shots"),
          .vision_language = json.at("vision_language"),
          .gaussian_sigma = json.at("gaussian_sigma"),
          .heat_maps = json.at("heat_maps"),
          .compare_untrained = json.at("compare_untrained")};
}

Json to_json(const EvaluateSettings& settings) {
  return {{"shots", settings.shots},
          {"vision_language", settings.vision_language},
          {"gaussian_sigma", settings.gaussian_sigma},
          {"heat_maps", settings.heat_maps},
          {"compare_untrained", settings.compare_untrained}};
}

EvaluateSettings evaluate_settings_from_json(const Json& json, const std::string& where) {
  return evaluate_settings_of(resolve(evaluate_schema(), source_value(json), "evaluate", where));
}

}  // namespace filo
