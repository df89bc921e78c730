#include "settings/train.hpp"

#include "settings/enum_names.hpp"

namespace filo {
namespace {

const EnumNames<Precision> precisions = {{Precision::fp32, "fp32"}, {Precision::bf16, "bf16"}};
const EnumNames<OnNotFinite> not_finite = {{OnNotFinite::stop, "stop"}, {OnNotFinite::skip, "skip"}};

}  // namespace

Schema train_schema() {
  const TrainSettings fallback;
  const auto rate = [](double value) { return Schema::number(value, 0, 1e6, true); };
  return Schema::record({
      {"checkpoint", Schema::text(fallback.checkpoint)},
      {"main", Schema::record({{"epochs", Schema::integer(fallback.main_epochs, 0, 100000)},
                               {"learning_rate", Schema::record({{"prompts", rate(fallback.learning_rate_prompts)},
                                                                 {"mdci", rate(fallback.learning_rate_mdci)}})}})},
      {"adapter", Schema::record({{"epochs", Schema::integer(fallback.adapter_epochs, 0, 100000)},
                                  {"learning_rate", rate(fallback.learning_rate_adapter)}})},
      {"batch_size", Schema::integer(fallback.batch_size, 1, 65536)},
      {"precision", precisions.schema(fallback.precision)},
      {"seed", Schema::integer(fallback.seed, 0, 18446744073709551615.0)},
      {"snapshot_every_steps", Schema::integer(fallback.snapshot_every_steps, 1)},
      {"on_not_finite", not_finite.schema(fallback.on_not_finite)},
      {"verify_every_steps", Schema::integer(fallback.verify_every_steps, 0)},
  });
}

TrainSettings train_settings_of(const Json& json) {
  const Json& main = json.at("main");
  const Json& adapter = json.at("adapter");
  return {
      .checkpoint = json.at("checkpoint"),
      .main_epochs = main.at("epochs"),
      .learning_rate_prompts = main.at("learning_rate").at("prompts"),
      .learning_rate_mdci = main.at("learning_rate").at("mdci"),
      .adapter_epochs = adapter.at("epochs"),
      .learning_rate_adapter = adapter.at("learning_rate"),
      .batch_size = json.at("batch_size"),
      .precision = precisions.value(json.at("precision")),
      .seed = json.at("seed"),
      .snapshot_every_steps = json.at("snapshot_every_steps"),
      .on_not_finite = not_finite.value(json.at("on_not_finite")),
      .verify_every_steps = json.at("verify_every_steps"),
  };
}

Json to_json(const TrainSettings& settings) {
  Json json = {
      {"main",
       {{"epochs", settings.main_epochs},
        {"learning_rate", {{"prompts", settings.learning_rate_prompts}, {"mdci", settings.learning_rate_mdci}}}}},
      {"adapter", {{"epochs", settings.adapter_epochs}, {"learning_rate", settings.learning_rate_adapter}}},
      {"batch_size", settings.batch_size},
      {"precision", precisions.name(settings.precision)},
      {"seed", settings.seed},
      {"snapshot_every_steps", settings.snapshot_every_steps}};
  const TrainSettings fallback;
  if (!settings.checkpoint.empty()) json["checkpoint"] = settings.checkpoint;
  if (settings.on_not_finite != fallback.on_not_finite) json["on_not_finite"] = not_finite.name(settings.on_not_finite);
  if (settings.verify_every_steps != fallback.verify_every_steps)
    json["verify_every_steps"] = settings.verify_every_steps;
  return json;
}

TrainSettings train_settings_from_json(const Json& json, const std::string& where) {
  return train_settings_of(resolve(train_schema(), source_value(json), "train", where));
}

}  // namespace filo
