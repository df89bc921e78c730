#include "settings/settings.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/error.hpp"
#include "settings/settings_schema.hpp"

namespace filo {
namespace {

// Names of enumerators as they stand in files.
template <typename Enum>
using Names = std::vector<std::pair<Enum, std::string>>;

const Names<Profile>& names(Profile) {
  static const Names<Profile> table = {{Profile::paper, "paper"}, {Profile::filo_release, "filo-release"}};
  return table;
}
const Names<PromptMethod>& names(PromptMethod) {
  static const Names<PromptMethod> table = {
      {PromptMethod::coop, "coop"}, {PromptMethod::cocoop, "cocoop"}, {PromptMethod::none, "none"}};
  return table;
}
const Names<PositionSource>& names(PositionSource) {
  static const Names<PositionSource> table = {
      {PositionSource::boxes, "boxes"}, {PositionSource::all, "all"}, {PositionSource::none, "none"}};
  return table;
}
const Names<BoxSource>& names(BoxSource) {
  static const Names<BoxSource> table = {
      {BoxSource::none, "none"}, {BoxSource::file, "file"}, {BoxSource::grounding_dino, "grounding-dino"}};
  return table;
}
const Names<Precision>& names(Precision) {
  static const Names<Precision> table = {{Precision::fp32, "fp32"}, {Precision::bf16, "bf16"}};
  return table;
}

template <typename Enum>
std::string name_of(Enum value) {
  for (const auto& [candidate, name] : names(Enum{}))
    if (candidate == value) return name;
  throw Error("settings", "an enumerator without a name");
}

template <typename Enum>
Enum value_of(const Json& name) {
  for (const auto& [value, candidate] : names(Enum{}))
    if (candidate == name) return value;
  throw UsageError("settings", "found " + name.dump() + ", expected a known name");
}

template <typename Enum>
Schema choice(Enum fallback) {
  std::vector<std::string> choices;
  for (const auto& entry : names(Enum{})) choices.push_back(entry.second);
  return Schema::choice(name_of(fallback), choices);
}

// A switch that a profile does not leave open.
Schema always(bool value, const std::string& reason) {
  Schema schema = Schema::boolean(value);
  schema.check = [value, reason](const Json& found) -> std::optional<std::string> {
    if (found == value) return std::nullopt;
    return std::string(value ? "true" : "false") + " (" + reason + ")";
  };
  return schema;
}

Schema layers_schema() {
  Schema schema = Schema::list(Schema::integer(std::nullopt, 1, 1000), Json(ModelSettings().layers), 1);
  schema.check = [](const Json& layers) -> std::optional<std::string> {
    for (std::size_t i = 1; i < layers.size(); ++i)
      if (layers[i] <= layers[i - 1]) return "ascending layers, each once, as in [6, 12, 18, 24]";
    return std::nullopt;
  };
  return schema;
}

Schema kernels_schema() {
  Schema side = Schema::integer(std::nullopt, 1, 99);
  side.check = [](const Json& pixels) -> std::optional<std::string> {
    if (pixels.get<int>() % 2 == 0) return "an odd number of pixels";
    return std::nullopt;
  };
  Schema kernel = Schema::list(side, std::nullopt);
  kernel.check = [](const Json& shape) -> std::optional<std::string> {
    if (shape.size() != 2) return "a kernel as [height, width]";
    return std::nullopt;
  };
  return Schema::list(kernel, Json(MdciSettings().kernels));
}

Schema prompt_schema(bool release) {
  const PromptSettings fallback;
  const std::string only_paper = "filo-release has none of it; profile paper has";
  Schema method = choice(fallback.method);
  if (release) method.choices = {"cocoop"};
  return Schema::record({
      {"method", method},
      {"vectors", Schema::integer(fallback.vectors, 1, 75)},
      {"class_names", Schema::boolean(fallback.class_names)},
      {"fixed_template", release ? always(false, only_paper) : Schema::boolean(fallback.fixed_template)},
      {"learnable_template",
       release ? always(true, "filo-release has no other prompts") : Schema::boolean(fallback.learnable_template)},
      {"generic_states", Schema::boolean(fallback.generic_states)},
      {"descriptions", Schema::text(fallback.descriptions)},
      {"positions", choice(fallback.positions)},
      {"filter", release ? always(false, only_paper) : Schema::boolean(fallback.filter)},
  });
}

Schema mdci_schema(bool release) {
  const MdciSettings fallback;
  const std::string plain = "the convolutions of filo-release are plain; profile paper has deformable ones";
  Schema schema = Schema::record({
      {"kernels", kernels_schema()},
      {"deformable", release ? always(false, plain) : Schema::boolean(fallback.deformable)},
      {"modulated", release ? always(false, plain) : Schema::boolean(fallback.modulated)},
  });
  schema.record_check = [](const Json& mdci, const Schema::Complain& complain) {
    if (mdci["modulated"] == true && mdci["deformable"] == false)
      complain("modulated", "found true, expected false where deformable is false");
  };
  return schema;
}

void check_model(const Json& model, const Schema::Complain& complain) {
  const Json& prompts = model["prompts"];
  if (prompts["fixed_template"] == false && prompts["learnable_template"] == false)
    complain("prompts.learnable_template",
             "found both template families off, expected fixed_template or learnable_template (or both) true");
}

template <typename Settings, typename Convert>
Settings checked(const Schema& schema, const SourceValue& value, const std::string& file, const std::string& key,
                 Convert convert) {
  Problems problems(file);
  const Json resolved = resolve(schema, value, key, problems);
  problems.throw_if_any();
  return convert(resolved);
}

}  // namespace

Profile profile_of(const SourceValue* model) {
  const SourceValue* profile = model == nullptr ? nullptr : model->find("profile");
  return profile != nullptr && profile->scalar == "filo-release" ? Profile::filo_release : Profile::paper;
}

Schema model_schema(Profile profile) {
  const ModelSettings fallback;
  const bool release = profile == Profile::filo_release;
  Schema schema = Schema::record({
      {"profile", choice(fallback.profile)},
      {"clip", Schema::text("")},
      {"image_size", Schema::integer(fallback.image_size, 1, 16384)},
      {"layers", layers_schema()},
      {"vv_from", Schema::integer(fallback.vv_from, 1, 1000)},
      {"prompts", prompt_schema(release)},
      {"mdci", mdci_schema(release)},
      {"boxes", Schema::record({{"source", choice(fallback.boxes.source)},
                                {"file", Schema::text(fallback.boxes.file)},
                                {"suppression", Schema::number(fallback.boxes.suppression, 0, 1)}})},
  });
  schema.record_check = check_model;
  return schema;
}

Schema train_schema() {
  const TrainSettings fallback;
  const auto rate = [](double value) { return Schema::number(value, 0, 1e6, true); };
  return Schema::record({
      {"main", Schema::record({{"epochs", Schema::integer(fallback.main_epochs, 0, 100000)},
                               {"learning_rate", Schema::record({{"prompts", rate(fallback.learning_rate_prompts)},
                                                                 {"mdci", rate(fallback.learning_rate_mdci)}})}})},
      {"adapter", Schema::record({{"epochs", Schema::integer(fallback.adapter_epochs, 0, 100000)},
                                  {"learning_rate", rate(fallback.learning_rate_adapter)}})},
      {"batch_size", Schema::integer(fallback.batch_size, 1, 65536)},
      {"precision", choice(fallback.precision)},
      {"seed", Schema::integer(fallback.seed, 0, 18446744073709551615.0)},
      {"snapshot_every_steps", Schema::integer(fallback.snapshot_every_steps, 1)},
  });
}

void check_evaluate(const Json& evaluate, const Schema::Complain& complain) {
  if (!evaluate.at("vision_language").get<bool>() && evaluate.at("shots") == 0)
    complain("vision_language", "found false with shots: 0, expected shots, which patch matching compares with");
}

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

Schema resource_schema() {
  const ResourceSettings fallback;
  Schema memory = Schema::text(fallback.memory);
  memory.check = [](const Json& text) -> std::optional<std::string> {
    const auto memory_text = text.get<std::string>();
    const auto digits = memory_text.find_first_not_of("0123456789");
    if (digits != 0 && digits < 10 && digits + 1 == memory_text.size() && memory_text.find_last_of("KMGT") == digits)
      return std::nullopt;
    return "digits and one of K, M, G, T, as in 4G";
  };
  Schema time = Schema::text(fallback.time);
  time.check = [](const Json& text) -> std::optional<std::string> {
    unsigned hours = 0, minutes = 0, seconds = 0;
    int used = 0;
    const auto time_text = text.get<std::string>();
    const bool digits = time_text.find_first_not_of("0123456789:") == std::string::npos && time_text.size() <= 10;
    if (digits && std::sscanf(time_text.c_str(), "%u:%2u:%2u%n", &hours, &minutes, &seconds, &used) == 3 &&
        static_cast<std::size_t>(used) == time_text.size() && minutes < 60 && seconds < 60)
      return std::nullopt;
    return "hours:minutes:seconds in quotes, as in \"01:00:00\"";
  };
  return Schema::record({
      {"ranks", Schema::integer(fallback.ranks, 1, 65536)},
      {"threads", Schema::integer(fallback.threads, 1, 4096)},
      {"gpus", Schema::integer(fallback.gpus, 0, 64)},
      {"memory", memory},
      {"time", time},
      {"attempts", Schema::record({{"failures", Schema::integer(fallback.attempts.failures, 1)},
                                   {"timeouts", Schema::integer(fallback.attempts.timeouts, 1)},
                                   {"out_of_memory", Schema::integer(fallback.attempts.out_of_memory, 1)},
                                   {"requeues", Schema::integer(fallback.attempts.requeues, 1)}})},
  });
}

ModelSettings model_settings_of(const Json& json) {
  const Json& prompts = json.at("prompts");
  const Json& mdci = json.at("mdci");
  const Json& boxes = json.at("boxes");
  return {
      .profile = value_of<Profile>(json.at("profile")),
      .clip = json.at("clip"),
      .image_size = json.at("image_size"),
      .layers = json.at("layers").get<std::vector<int>>(),
      .vv_from = json.at("vv_from"),
      .prompts = {.method = value_of<PromptMethod>(prompts.at("method")),
                  .vectors = prompts.at("vectors"),
                  .class_names = prompts.at("class_names"),
                  .fixed_template = prompts.at("fixed_template"),
                  .learnable_template = prompts.at("learnable_template"),
                  .generic_states = prompts.at("generic_states"),
                  .descriptions = prompts.at("descriptions"),
                  .positions = value_of<PositionSource>(prompts.at("positions")),
                  .filter = prompts.at("filter")},
      .mdci = {.kernels = mdci.at("kernels").get<std::vector<std::array<int, 2>>>(),
               .deformable = mdci.at("deformable"),
               .modulated = mdci.at("modulated")},
      .boxes = {.source = value_of<BoxSource>(boxes.at("source")),
                .file = boxes.at("file"),
                .suppression = boxes.at("suppression")},
  };
}

TrainSettings train_settings_of(const Json& json) {
  const Json& main = json.at("main");
  const Json& adapter = json.at("adapter");
  return {
      .main_epochs = main.at("epochs"),
      .learning_rate_prompts = main.at("learning_rate").at("prompts"),
      .learning_rate_mdci = main.at("learning_rate").at("mdci"),
      .adapter_epochs = adapter.at("epochs"),
      .learning_rate_adapter = adapter.at("learning_rate"),
      .batch_size = json.at("batch_size"),
      .precision = value_of<Precision>(json.at("precision")),
      .seed = json.at("seed"),
      .snapshot_every_steps = json.at("snapshot_every_steps"),
  };
}

EvaluateSettings evaluate_settings_of(const Json& json) {
  return {.shots = json.at("shots"),
          .vision_language = json.at("vision_language"),
          .gaussian_sigma = json.at("gaussian_sigma"),
          .heat_maps = json.at("heat_maps"),
          .compare_untrained = json.at("compare_untrained")};
}

ResourceSettings resource_settings_of(const Json& json) {
  const Json& attempts = json.at("attempts");
  return {.ranks = json.at("ranks"),
          .threads = json.at("threads"),
          .gpus = json.at("gpus"),
          .memory = json.at("memory"),
          .time = json.at("time"),
          .attempts = {.failures = attempts.at("failures"),
                       .timeouts = attempts.at("timeouts"),
                       .out_of_memory = attempts.at("out_of_memory"),
                       .requeues = attempts.at("requeues")}};
}

Json to_json(const ModelSettings& settings) {
  return {{"profile", name_of(settings.profile)},
          {"clip", settings.clip},
          {"image_size", settings.image_size},
          {"layers", settings.layers},
          {"vv_from", settings.vv_from},
          {"prompts",
           {{"method", name_of(settings.prompts.method)},
            {"vectors", settings.prompts.vectors},
            {"class_names", settings.prompts.class_names},
            {"fixed_template", settings.prompts.fixed_template},
            {"learnable_template", settings.prompts.learnable_template},
            {"generic_states", settings.prompts.generic_states},
            {"descriptions", settings.prompts.descriptions},
            {"positions", name_of(settings.prompts.positions)},
            {"filter", settings.prompts.filter}}},
          {"mdci",
           {{"kernels", settings.mdci.kernels},
            {"deformable", settings.mdci.deformable},
            {"modulated", settings.mdci.modulated}}},
          {"boxes",
           {{"source", name_of(settings.boxes.source)},
            {"file", settings.boxes.file},
            {"suppression", settings.boxes.suppression}}}};
}

Json to_json(const TrainSettings& settings) {
  return {{"main",
           {{"epochs", settings.main_epochs},
            {"learning_rate", {{"prompts", settings.learning_rate_prompts}, {"mdci", settings.learning_rate_mdci}}}}},
          {"adapter", {{"epochs", settings.adapter_epochs}, {"learning_rate", settings.learning_rate_adapter}}},
          {"batch_size", settings.batch_size},
          {"precision", name_of(settings.precision)},
          {"seed", settings.seed},
          {"snapshot_every_steps", settings.snapshot_every_steps}};
}

Json to_json(const EvaluateSettings& settings) {
  return {{"shots", settings.shots},
          {"vision_language", settings.vision_language},
          {"gaussian_sigma", settings.gaussian_sigma},
          {"heat_maps", settings.heat_maps},
          {"compare_untrained", settings.compare_untrained}};
}

Json to_json(const ResourceSettings& settings) {
  return {{"ranks", settings.ranks},   {"threads", settings.threads}, {"gpus", settings.gpus},
          {"memory", settings.memory}, {"time", settings.time},       {"attempts", to_json(settings.attempts)}};
}

Json to_json(const AttemptLimits& limits) {
  return {{"failures", limits.failures},
          {"timeouts", limits.timeouts},
          {"out_of_memory", limits.out_of_memory},
          {"requeues", limits.requeues}};
}

ModelSettings model_settings_from_json(const Json& json, const std::string& where) {
  const SourceValue value = source_value(json);
  return checked<ModelSettings>(model_schema(profile_of(&value)), value, where, "model", model_settings_of);
}

TrainSettings train_settings_from_json(const Json& json, const std::string& where) {
  return checked<TrainSettings>(train_schema(), source_value(json), where, "train", train_settings_of);
}

EvaluateSettings evaluate_settings_from_json(const Json& json, const std::string& where) {
  return checked<EvaluateSettings>(evaluate_schema(), source_value(json), where, "evaluate", evaluate_settings_of);
}

ResourceSettings resource_settings_from_json(const Json& json, const std::string& where) {
  return checked<ResourceSettings>(resource_schema(), source_value(json), where, "resources", resource_settings_of);
}

ModelSettings load_model_settings(const std::string& yaml_path) {
  SourceValue file = read_yaml(yaml_path);
  if (file.is_absent()) file = {.kind = SourceValue::Kind::map, .line = 1};
  const SourceValue* section = file.find("model");
  const SourceValue& model = section == nullptr ? file : *section;
  return checked<ModelSettings>(model_schema(profile_of(&model)), model, yaml_path, section == nullptr ? "" : "model",
                                model_settings_of);
}

}  // namespace filo
