#include "settings/evaluate.hpp"

#include <algorithm>

#include "settings/model_names.hpp"
#include "settings/schema.hpp"

namespace filo {
namespace {

void check_evaluate(const Json& evaluate, const Schema::Complain& complain) {
  if (!evaluate.at("vision_language").get<bool>() && evaluate.at("shots") == 0)
    complain("vision_language", "found false with shots: 0, expected shots, which patch matching compares with");
  Json limits = evaluate.at("aupro").at("fpr");
  std::sort(limits.begin(), limits.end());
  if (std::adjacent_find(limits.begin(), limits.end()) != limits.end())
    complain("aupro.fpr", "found the same limit twice, expected each once");
}

// null where the key is absent.
Schema or_absent(Schema schema) {
  schema.fallback = Json();
  return schema;
}

template <typename Value, typename Read>
std::optional<Value> optional_of(const Json& json, Read read) {
  return json.is_null() ? std::nullopt : std::optional<Value>(read(json));
}

}  // namespace

Schema evaluate_schema() {
  const EvaluateSettings fallback;
  Schema boxes = box_source_names.schema(BoxSource::none);
  boxes.choices = {"none", "file"};
  Schema schema = Schema::record({
      {"shots", Schema::integer(fallback.shots, 0, 10000)},
      {"seed", Schema::integer(Json(), 0, 18446744073709551615.0)},
      {"vision_language", Schema::boolean(fallback.vision_language)},
      {"gaussian_sigma", Schema::number(fallback.gaussian_sigma, 0, 1000)},
      {"filter", or_absent(Schema::boolean(false))},
      {"positions", or_absent(position_names.schema(PositionSource::none))},
      {"boxes", or_absent(std::move(boxes))},
      {"aupro",
       Schema::record({{"fpr", Schema::list(Schema::number(std::nullopt, 0, 1, true), Json(fallback.aupro_fpr), 1)}})},
      {"heat_maps", Schema::integer(fallback.heat_maps, 0)},
      {"compare_untrained", Schema::boolean(fallback.compare_untrained)},
  });
  schema.record_check = check_evaluate;
  return schema;
}

EvaluateSettings evaluate_settings_of(const Json& json) {
  const auto as_is = [](const Json& value) { return value; };
  return {
      .shots = json.at("shots"),
      .seed = optional_of<std::uint64_t>(json.at("seed"), as_is),
      .vision_language = json.at("vision_language"),
      .gaussian_sigma = json.at("gaussian_sigma"),
      .filter = optional_of<bool>(json.at("filter"), as_is),
      .positions = optional_of<PositionSource>(json.at("positions"),
                                               [](const Json& name) { return position_names.value(name); }),
      .boxes = optional_of<BoxSource>(json.at("boxes"), [](const Json& name) { return box_source_names.value(name); }),
      .aupro_fpr = json.at("aupro").at("fpr"),
      .heat_maps = json.at("heat_maps"),
      .compare_untrained = json.at("compare_untrained")};
}

Json to_json(const EvaluateSettings& settings) {
  Json json = {{"shots", settings.shots},
               {"vision_language", settings.vision_language},
               {"gaussian_sigma", settings.gaussian_sigma},
               {"heat_maps", settings.heat_maps},
               {"compare_untrained", settings.compare_untrained}};
  if (settings.seed) json["seed"] = *settings.seed;
  if (settings.filter) json["filter"] = *settings.filter;
  if (settings.positions) json["positions"] = position_names.name(*settings.positions);
  if (settings.boxes) json["boxes"] = box_source_names.name(*settings.boxes);
  if (settings.aupro_fpr != EvaluateSettings().aupro_fpr) json["aupro"]["fpr"] = settings.aupro_fpr;
  return json;
}

EvaluateSettings evaluate_settings_from_json(const Json& json, const std::string& where) {
  return evaluate_settings_of(resolve(evaluate_schema(), source_value(json), "evaluate", where));
}

ModelSettings evaluated_model(ModelSettings trained, const EvaluateSettings& settings) {
  ModelSettings model = std::move(trained);
  model.prompts.filter = settings.filter.value_or(model.prompts.filter);
  model.prompts.positions = settings.positions.value_or(model.prompts.positions);
  model.boxes.source = settings.boxes.value_or(model.boxes.source);
  return model;
}

}  // namespace filo
