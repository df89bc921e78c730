#include "settings/train.hpp"

#include "settings/train_names.hpp"

namespace filo {

const EnumNames<Precision> precision_names = {{Precision::fp32, "fp32"}, {Precision::bf16, "bf16"}};

namespace {

const EnumNames<OnNotFinite> not_finite = {{OnNotFinite::stop, "stop"}, {OnNotFinite::skip, "skip"}};
const EnumNames<Schedule> schedules = {
    {Schedule::constant, "constant"}, {Schedule::linear, "linear"}, {Schedule::cosine, "cosine"}};
const EnumNames<BestBy> best_by = {{BestBy::none, "none"},
                                   {BestBy::validation_loss, "validation_loss"},
                                   {BestBy::validation_image_auroc, "validation_image_auroc"}};

const EnumNames<Balance> balances = {
    {Balance::none, "none"}, {Balance::classes, "class"}, {Balance::defects, "defect"}};
const EnumNames<bool> batches = {{false, "mixed"}, {true, "grouped"}};

Json sampling_json(const TrainSettings& settings) {
  return {{"batches", batches.name(settings.grouped)}, {"balance", balances.name(settings.balance)}};
}

void check_train(const Json& train, const Schema::Complain& complain) {
  const bool validates = train.at("validation").at("fraction").get<double>() > 0;
  const std::string best = train.at("snapshots").at("best_by");
  if (best != "none" && !validates)
    complain("snapshots.best_by",
             "found " + best + " with validation.fraction: 0, expected a fraction of the images to validate on");
  if (train.at("early_stopping").at("patience") > 0 && best == "none")
    complain("early_stopping.patience",
             "found a patience with snapshots.best_by: none, expected the metric whose best is waited for");
}

Json augment_json(const TrainSettings& settings) {
  return {{"mosaic", {{"rate", settings.mosaic.rate}, {"variants", settings.mosaic.variants}}}};
}

Json snapshots_json(const SnapshotSettings& settings) {
  return {{"every_steps", settings.every_steps},
          {"every_minutes", settings.every_minutes},
          {"keep", settings.keep},
          {"best_by", best_by.name(settings.best_by)}};
}

// Specs of former versions name the one setting that there was.
Json without_former_names(Json train) {
  if (train.is_object() && train.contains("snapshot_every_steps")) {
    if (!train.contains("snapshots")) train["snapshots"]["every_steps"] = train["snapshot_every_steps"];
    train.erase("snapshot_every_steps");
  }
  return train;
}

}  // namespace

Schema train_schema() {
  const TrainSettings fallback;
  const auto rate = [](double value) { return Schema::number(value, 0, 1e6, true); };
  Schema schema = Schema::record({
      {"checkpoint", Schema::text(fallback.checkpoint)},
      {"main", Schema::record({{"epochs", Schema::integer(fallback.main_epochs, 0, 100000)},
                               {"learning_rate", Schema::record({{"prompts", rate(fallback.learning_rate_prompts)},
                                                                 {"mdci", rate(fallback.learning_rate_mdci)}})}})},
      {"adapter", Schema::record({{"epochs", Schema::integer(fallback.adapter_epochs, 0, 100000)},
                                  {"learning_rate", rate(fallback.learning_rate_adapter)}})},
      {"batch_size", Schema::integer(fallback.batch_size, 1, 65536)},
      {"sampling",
       Schema::record({{"batches", batches.schema(fallback.grouped)}, {"balance", balances.schema(fallback.balance)}})},
      {"augment",
       Schema::record(
           {{"mosaic", Schema::record({{"rate", Schema::number(fallback.mosaic.rate, 0, 1)},
                                       {"variants", Schema::integer(fallback.mosaic.variants, 1, 65536)}})}})},
      {"precision", precision_names.schema(fallback.precision)},
      {"seed", Schema::integer(fallback.seed, 0, 18446744073709551615.0)},
      {"weight_decay", Schema::number(fallback.weight_decay, 0, 1e6)},
      {"schedule", schedules.schema(fallback.schedule)},
      {"warmup_steps", Schema::integer(fallback.warmup_steps, 0)},
      {"clip_gradient_norm", Schema::number(fallback.clip_gradient_norm, 0, 1e30)},
      {"micro_batch_size", Schema::integer(fallback.micro_batch_size, 0, 65536)},
      {"gradients", precision_names.schema(fallback.gradients)},
      {"snapshots", Schema::record({{"every_steps", Schema::integer(fallback.snapshots.every_steps, 1)},
                                    {"every_minutes", Schema::number(fallback.snapshots.every_minutes, 0, 1e6)},
                                    {"keep", Schema::integer(fallback.snapshots.keep, 1, 1000)},
                                    {"best_by", best_by.schema(fallback.snapshots.best_by)}})},
      {"validation", Schema::record({{"fraction", Schema::number(fallback.validation.fraction, 0, 0.9)},
                                     {"every_epochs", Schema::integer(fallback.validation.every_epochs, 1)}})},
      {"early_stopping", Schema::record({{"patience", Schema::integer(fallback.patience, 0)}})},
      {"on_not_finite", not_finite.schema(fallback.on_not_finite)},
      {"verify_every_steps", Schema::integer(fallback.verify_every_steps, 0)},
  });
  schema.record_check = check_train;
  return schema;
}

TrainSettings train_settings_of(const Json& json) {
  const Json& main = json.at("main");
  const Json& adapter = json.at("adapter");
  const Json& snapshots = json.at("snapshots");
  const Json& validation = json.at("validation");
  const Json& mosaic = json.at("augment").at("mosaic");
  return {
      .checkpoint = json.at("checkpoint"),
      .main_epochs = main.at("epochs"),
      .learning_rate_prompts = main.at("learning_rate").at("prompts"),
      .learning_rate_mdci = main.at("learning_rate").at("mdci"),
      .adapter_epochs = adapter.at("epochs"),
      .learning_rate_adapter = adapter.at("learning_rate"),
      .batch_size = json.at("batch_size"),
      .grouped = batches.value(json.at("sampling").at("batches")),
      .balance = balances.value(json.at("sampling").at("balance")),
      .mosaic = {.rate = mosaic.at("rate"), .variants = mosaic.at("variants")},
      .precision = precision_names.value(json.at("precision")),
      .seed = json.at("seed"),
      .weight_decay = json.at("weight_decay"),
      .schedule = schedules.value(json.at("schedule")),
      .warmup_steps = json.at("warmup_steps"),
      .clip_gradient_norm = json.at("clip_gradient_norm"),
      .micro_batch_size = json.at("micro_batch_size"),
      .gradients = precision_names.value(json.at("gradients")),
      .snapshots = {.every_steps = snapshots.at("every_steps"),
                    .every_minutes = snapshots.at("every_minutes"),
                    .keep = snapshots.at("keep"),
                    .best_by = best_by.value(snapshots.at("best_by"))},
      .validation = {.fraction = validation.at("fraction"), .every_epochs = validation.at("every_epochs")},
      .patience = json.at("early_stopping").at("patience"),
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
      {"precision", precision_names.name(settings.precision)},
      {"seed", settings.seed}};
  const TrainSettings fallback;
  const auto where_not_default = [&](const char* name, const Json& value, const Json& usual) {
    if (value != usual) json[name] = value;
  };
  where_not_default("checkpoint", settings.checkpoint, fallback.checkpoint);
  where_not_default("sampling", sampling_json(settings), sampling_json(fallback));
  if (settings.mosaic.rate > 0) json["augment"] = augment_json(settings);
  where_not_default("weight_decay", settings.weight_decay, fallback.weight_decay);
  where_not_default("schedule", schedules.name(settings.schedule), schedules.name(fallback.schedule));
  where_not_default("warmup_steps", settings.warmup_steps, fallback.warmup_steps);
  where_not_default("clip_gradient_norm", settings.clip_gradient_norm, fallback.clip_gradient_norm);
  where_not_default("micro_batch_size", settings.micro_batch_size, fallback.micro_batch_size);
  where_not_default("gradients", precision_names.name(settings.gradients), precision_names.name(fallback.gradients));
  where_not_default("snapshots", snapshots_json(settings.snapshots), snapshots_json(fallback.snapshots));
  if (settings.validation.fraction > 0)
    json["validation"] = {{"fraction", settings.validation.fraction},
                          {"every_epochs", settings.validation.every_epochs}};
  if (settings.patience > 0) json["early_stopping"] = {{"patience", settings.patience}};
  where_not_default("on_not_finite", not_finite.name(settings.on_not_finite), not_finite.name(fallback.on_not_finite));
  where_not_default("verify_every_steps", settings.verify_every_steps, fallback.verify_every_steps);
  return json;
}

TrainSettings train_settings_from_json(const Json& json, const std::string& where) {
  return train_settings_of(resolve(train_schema(), source_value(without_former_names(json)), "train", where));
}

}  // namespace filo
