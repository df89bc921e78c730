#include "settings/model.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/installed.hpp"
#include "settings/model_names.hpp"
#include "settings/train_names.hpp"
#include "settings/yaml.hpp"

namespace filo {

const EnumNames<FeatureType> feature_type_names = {
    {FeatureType::f16, "f16"}, {FeatureType::bf16, "bf16"}, {FeatureType::f32, "f32"}, {FeatureType::int8, "int8"}};
namespace {

const EnumNames<Profile> profiles = {{Profile::paper, "paper"}, {Profile::filo_release, "filo-release"}};
const EnumNames<PromptMethod> methods = {
    {PromptMethod::coop, "coop"}, {PromptMethod::cocoop, "cocoop"}, {PromptMethod::none, "none"}};
const EnumNames<ClipActivation> activations = {
    {ClipActivation::weights, "weights"}, {ClipActivation::gelu, "gelu"}, {ClipActivation::quick_gelu, "quick_gelu"}};

// A switch that a profile does not leave open.
Schema always(bool value, const std::string& reason) {
  return Schema::boolean(value).where([value](const Json& found) { return found == value; },
                                      std::string(value ? "true" : "false") + " (" + reason + ")");
}

Schema layers_schema() {
  return Schema::list(Schema::integer(std::nullopt, 1, 1000), Json(ModelSettings().layers), 1)
      .where(
          [](const Json& layers) {
            return std::adjacent_find(layers.begin(), layers.end(), std::greater_equal<>()) == layers.end();
          },
          "ascending layers, each once, as in [6, 12, 18, 24]");
}

Schema kernels_schema() {
  const Schema side =
      Schema::integer(std::nullopt, 1, 99)
          .where([](const Json& pixels) { return pixels.get<int>() % 2 == 1; }, "an odd number of pixels");
  const Schema kernel = Schema::list(side, std::nullopt)
                            .where([](const Json& shape) { return shape.size() == 2; }, "a kernel as [height, width]");
  return Schema::list(kernel, Json(MdciSettings().kernels));
}

Schema prompt_schema(bool release) {
  const PromptSettings fallback;
  const std::string only_paper = "filo-release has none of it; profile paper has";
  Schema method = methods.schema(fallback.method);
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
      {"positions", position_names.schema(fallback.positions)},
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

}  // namespace

const EnumNames<PositionSource> position_names = {
    {PositionSource::boxes, "boxes"}, {PositionSource::all, "all"}, {PositionSource::none, "none"}};
const EnumNames<BoxSource> box_source_names = {
    {BoxSource::none, "none"}, {BoxSource::file, "file"}, {BoxSource::grounding_dino, "grounding-dino"}};

Profile profile_of(const SourceValue* model) {
  const SourceValue* profile = model == nullptr ? nullptr : model->find("profile");
  return profile != nullptr && profile->scalar == profiles.name(Profile::filo_release) ? Profile::filo_release
                                                                                       : Profile::paper;
}

Schema model_schema(Profile profile) {
  const ModelSettings fallback;
  const bool release = profile == Profile::filo_release;
  Schema activation = activations.schema(ClipActivation::weights);
  if (release) activation.fallback = Json();
  Schema schema = Schema::record({
      {"profile", profiles.schema(fallback.profile)},
      {"clip", Schema::text("")},
      {"clip_activation", activation},
      {"image_size", Schema::integer(fallback.image_size, 1, 16384)},
      {"tiling", Schema::record({{"size", Schema::integer(fallback.tiling.size, 0, 16384)},
                                 {"overlap", Schema::number(fallback.tiling.overlap, 0, 0.9)}})},
      {"layers", layers_schema()},
      {"vv_from", Schema::integer(fallback.vv_from, 1, 1000)},
      {"feature_type", feature_type_names.schema(fallback.feature_type)},
      {"precision", precision_names.schema(fallback.precision)},
      {"prompts", prompt_schema(release)},
      {"mdci", mdci_schema(release)},
      {"boxes", Schema::record({{"source", box_source_names.schema(fallback.boxes.source)},
                                {"file", Schema::text(fallback.boxes.file)},
                                {"suppression", Schema::number(fallback.boxes.suppression, 0, 1)}})},
  });
  schema.record_check = check_model;
  return schema;
}

ModelSettings model_settings_of(const Json& json) {
  const Json& prompts = json.at("prompts");
  const Json& mdci = json.at("mdci");
  const Json& boxes = json.at("boxes");
  return {
      .profile = profiles.value(json.at("profile")),
      .clip = json.at("clip"),
      .clip_activation = json.at("clip_activation").is_null()
                             ? std::nullopt
                             : std::optional(activations.value(json.at("clip_activation"))),
      .image_size = json.at("image_size"),
      .tiling = {.size = json.at("tiling").at("size"), .overlap = json.at("tiling").at("overlap")},
      .layers = json.at("layers").get<std::vector<int>>(),
      .vv_from = json.at("vv_from"),
      .feature_type = feature_type_names.value(json.at("feature_type")),
      .precision = precision_names.value(json.at("precision")),
      .prompts = {.method = methods.value(prompts.at("method")),
                  .vectors = prompts.at("vectors"),
                  .class_names = prompts.at("class_names"),
                  .fixed_template = prompts.at("fixed_template"),
                  .learnable_template = prompts.at("learnable_template"),
                  .generic_states = prompts.at("generic_states"),
                  .descriptions = prompts.at("descriptions"),
                  .positions = position_names.value(prompts.at("positions")),
                  .filter = prompts.at("filter")},
      .mdci = {.kernels = mdci.at("kernels").get<std::vector<std::array<int, 2>>>(),
               .deformable = mdci.at("deformable"),
               .modulated = mdci.at("modulated")},
      .boxes = {.source = box_source_names.value(boxes.at("source")),
                .file = boxes.at("file"),
                .suppression = boxes.at("suppression")},
  };
}

int tiles_along(const TilingSettings& tiling, int length) {
  if (tiling.size == 0 || length <= tiling.size) return 1;
  const double step = std::max(1.0, tiling.size * (1 - tiling.overlap));
  return static_cast<int>(std::ceil((length - tiling.size) / step)) + 1;
}

ClipActivation clip_activation_of(const ModelSettings& settings, int clip_image_size) {
  if (settings.clip_activation) return *settings.clip_activation;
  return settings.image_size == clip_image_size ? ClipActivation::weights : ClipActivation::gelu;
}

Json to_json(ClipActivation activation) { return activations.name(activation); }

Json to_json(const ModelSettings& settings) {
  return {{"profile", profiles.name(settings.profile)},
          {"clip", settings.clip},
          {"clip_activation", settings.clip_activation ? to_json(*settings.clip_activation) : Json()},
          {"image_size", settings.image_size},
          {"tiling", {{"size", settings.tiling.size}, {"overlap", settings.tiling.overlap}}},
          {"layers", settings.layers},
          {"vv_from", settings.vv_from},
          {"feature_type", feature_type_names.name(settings.feature_type)},
          {"precision", precision_names.name(settings.precision)},
          {"prompts",
           {{"method", methods.name(settings.prompts.method)},
            {"vectors", settings.prompts.vectors},
            {"class_names", settings.prompts.class_names},
            {"fixed_template", settings.prompts.fixed_template},
            {"learnable_template", settings.prompts.learnable_template},
            {"generic_states", settings.prompts.generic_states},
            {"descriptions", settings.prompts.descriptions},
            {"positions", position_names.name(settings.prompts.positions)},
            {"filter", settings.prompts.filter}}},
          {"mdci",
           {{"kernels", settings.mdci.kernels},
            {"deformable", settings.mdci.deformable},
            {"modulated", settings.mdci.modulated}}},
          {"boxes",
           {{"source", box_source_names.name(settings.boxes.source)},
            {"file", settings.boxes.file},
            {"suppression", settings.boxes.suppression}}}};
}

ModelSettings model_settings_from_json(const Json& json, const std::string& where) {
  const SourceValue value = source_value(json);
  ModelSettings settings = model_settings_of(resolve(model_schema(profile_of(&value)), value, "model", where));
  if (!json.contains("clip_activation")) settings.clip_activation = ClipActivation::weights;
  return settings;
}

ModelSettings load_model_settings(const std::string& yaml_path) {
  SourceValue file = read_yaml(shipped_file(yaml_path));
  if (file.is_absent()) file = {.kind = SourceValue::Kind::map, .line = 1, .fields = {}};
  const SourceValue* section = file.find("model");
  const SourceValue& model = section == nullptr ? file : *section;
  return model_settings_of(
      resolve(model_schema(profile_of(&model)), model, section == nullptr ? "" : "model", yaml_path));
}

}  // namespace filo
