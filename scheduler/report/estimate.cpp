#include "scheduler/report/estimate.hpp"

#include <algorithm>

#include "settings/evaluate.hpp"
#include "settings/model.hpp"
#include "settings/train.hpp"
#include "workspace/spec.hpp"

namespace filo {
namespace {

// Tokens of a prompt that no other prompt of its set shares (docs/explanations/performance.md: 504 nodes for 142
// prompts).
constexpr double nodes_per_prompt = 3.5;
constexpr double training_passes = 3;  // forward, and twice that backward

double patches(const ModelSettings& model, const ClipSizes& clip) {
  const int side = model.image_size / clip.patch;
  return static_cast<double>(side) * side;
}

double vv_stages(const ModelSettings& model) {
  return static_cast<double>(
      std::count_if(model.layers.begin(), model.layers.end(), [&](int layer) { return layer >= model.vv_from; }));
}

// filo-release keeps every V-V map, and the one of the layer before the first, as one.
double stored_maps(const ModelSettings& model) {
  const auto layers = static_cast<double>(model.layers.size());
  if (model.profile != Profile::filo_release || vv_stages(model) == 0) return layers + vv_stages(model);
  const bool before = std::ranges::find(model.layers, model.vv_from - 1) != model.layers.end();
  return layers + (before ? 0 : 1);
}

double map_bytes(const ModelSettings& model, const ClipSizes& clip) {
  const double values = patches(model, clip) * clip.width;
  switch (model.feature_type) {
    case FeatureType::f32:
      return 4 * values;
    case FeatureType::int8:
      return values + 4 * patches(model, clip);
    case FeatureType::f16:
    case FeatureType::bf16:
      break;
  }
  return 2 * values;
}

// Linear maps of a transformer's layer over `tokens` tokens.
double layer_flop(double tokens, double width, double mlp) {
  return 2 * tokens * (4 * width * width + 2 * width * mlp);
}

double vision_flop(const ModelSettings& model, const ClipSizes& clip) {
  const double tokens = patches(model, clip) + 1, width = clip.width;
  const double attention = 4 * tokens * tokens * width;
  const double vv_layers = std::max(0, clip.layers - model.vv_from + 1);
  return clip.layers * (layer_flop(tokens, width, clip.mlp) + attention) +
         vv_layers * (4 * tokens * width * width + attention);
}

double prompt_count(const ModelSettings& model, const Json& descriptions) {
  double described = 0, classes = 0;
  for (const auto& [name, entry] : descriptions.at("classes").items()) {
    described += static_cast<double>(entry.at("descriptions").size());
    ++classes;
  }
  const Json& states = descriptions.at("states");
  const double positions = model.prompts.positions == PositionSource::all ? 9 : 1;
  const double abnormal = described / std::max(1.0, classes) + static_cast<double>(states.at("abnormal").size());
  const double families = (model.prompts.fixed_template ? 1 : 0) + (model.prompts.learnable_template ? 1 : 0);
  return families * (static_cast<double>(states.at("normal").size()) + abnormal * positions);
}

// Of one image's prompts; with the fixed template alone, or CoOp, images of a class share them.
double text_flop(const ModelSettings& model, const ClipSizes& clip, const Json& descriptions) {
  const double nodes = nodes_per_prompt * prompt_count(model, descriptions);
  const double all = clip.text_layers * layer_flop(nodes, clip.text_width, 4.0 * clip.text_width);
  const bool per_image = model.prompts.learnable_template && model.prompts.method == PromptMethod::cocoop;
  return per_image ? all : all / 8;
}

double taps(const ModelSettings& model) {
  double sum = 0;
  for (const auto& kernel : model.mdci.kernels) sum += kernel[0] * kernel[1];
  return sum;
}

double maps_flop(const ModelSettings& model, const ClipSizes& clip) {
  const double places = patches(model, clip), width = clip.width, out = clip.projection;
  double offsets = 0;
  if (model.mdci.deformable)
    for (const auto& kernel : model.mdci.kernels) offsets += 2.0 * kernel[0] * kernel[1] * kernel[0] * kernel[1];
  return 2 * places * width *
         (static_cast<double>(model.layers.size()) * out + vv_stages(model) * (taps(model) * out + offsets));
}

// Of both towers in float32, which a bundle takes along.
double weight_bytes(const ClipSizes& clip) {
  const auto tower = [](double layers, double width, double mlp) {
    return layers * (4 * width * width + 2 * width * mlp);
  };
  constexpr double vocabulary = 49408;
  return 4 * (tower(clip.layers, clip.width, clip.mlp) +
              tower(clip.text_layers, clip.text_width, 4.0 * clip.text_width) + vocabulary * clip.text_width);
}

double parameters(const ModelSettings& model, const ClipSizes& clip) {
  const double width = clip.width, out = clip.projection;
  double kernels = taps(model) * width * out;
  if (model.mdci.deformable)
    for (const auto& kernel : model.mdci.kernels) {
      const double size = kernel[0] * kernel[1];
      kernels += 2 * size * size * width;
    }
  const double adapter = out * out;  // down to a half and up again
  const double prompts = 2.0 * model.prompts.vectors * clip.text_width + 2 * (out / 16) * (out + clip.text_width);
  return vv_stages(model) * kernels + static_cast<double>(model.layers.size()) * width * out + adapter + prompts;
}

}  // namespace

StageCost stage_cost(StageKind kind, const Json& spec, const ClipSizes& clip, double images) {
  if (kind == StageKind::boxes) return {};
  if (kind == StageKind::exported) return {.flop = 0, .bytes = weight_bytes(clip)};
  if (kind == StageKind::features) {
    const ModelSettings model = features_spec_from_json(spec, "spec").model;
    const double size = model.image_size;
    return {.flop = images * vision_flop(model, clip),
            .bytes = images * (stored_maps(model) * map_bytes(model, clip) + size * size / 8 + clip.projection * 4.0)};
  }
  const ModelSettings model = model_settings_from_json(spec.at(spec_member::model), "spec");
  if (kind == StageKind::train && spec.contains(spec_member::checkpoint))
    return {.flop = 0, .bytes = 4 * parameters(model, clip)};
  const double image = text_flop(model, clip, spec.at(spec_member::descriptions)) + maps_flop(model, clip);
  if (kind == StageKind::train) {
    const TrainSettings train = train_settings_from_json(spec.at(spec_member::train), "spec");
    constexpr double copies = 2 * 3 + 1;  // two snapshots with the optimiser's two moments, the checkpoint
    return {.flop = images * (train.main_epochs * training_passes * image +
                              text_flop(model, clip, spec.at(spec_member::descriptions))),
            .bytes = copies * 4 * parameters(model, clip)};
  }
  const EvaluateSettings evaluate = evaluate_settings_from_json(spec.at(spec_member::evaluate), "spec");
  const double places = patches(model, clip);
  const double memory = evaluate.shots == 0 ? 0
                                            : 2 * places * places * evaluate.shots * clip.width *
                                                  static_cast<double>(model.layers.size());
  const double classes = static_cast<double>(spec.at(spec_member::descriptions).at("classes").size());
  const double pictures = std::min(images, classes * evaluate.heat_maps);
  const double size = model.image_size;
  return {.flop = (evaluate.compare_untrained ? 2 : 1) * images * (image + memory) +
                  classes * evaluate.shots * vision_flop(model, clip),
          .bytes = pictures * 2 * size * size * 1.5};
}

namespace {

std::vector<std::string> dataset_names(const Json& spec) {
  std::vector<std::string> names;
  const std::string one = spec_member::dataset, several = one + "s";
  if (spec.contains(one)) names.push_back(text_of(spec[one], "name"));
  if (spec.contains(several))
    for (const auto& dataset : spec[several]) names.push_back(text_of(dataset, "name"));
  return names;
}

}  // namespace

StageCost StageCosts::of(StageKind kind, const Json& spec) {
  double images = 0;
  const Json* const model = spec.contains(spec_member::model) ? &spec.at(spec_member::model) : &spec;
  TilingSettings tiling;
  if (model->contains("tiling"))
    tiling = {.size = model->at("tiling").at("size"), .overlap = model->at("tiling").at("overlap")};
  const int mosaics = spec.value(spec_member::mosaics, 0);
  for (const auto& name : dataset_names(spec))
    images += mosaics > 0 ? static_cast<double>(dataset(name).classes.size()) * mosaics : images_of(name, tiling);
  return stage_cost(kind, spec, sizes(text_of(spec.value(spec_member::clip, Json()), "path")), images);
}

double StageCosts::images_of(const std::string& name, const TilingSettings& tiling) {
  if (tiling.size == 0) return dataset(name).test_images;
  double tiles = 0;
  for (const auto& [size, images] : dataset(name).test_sizes)
    tiles += static_cast<double>(images) * tiles_along(tiling, size.first) * tiles_along(tiling, size.second);
  return tiles;
}

const DatasetInfo& StageCosts::dataset(const std::string& name) {
  if (const auto found = datasets_.find(name); found != datasets_.end()) return found->second;
  DatasetInfo info = dataset_info(workspace_, name);
  info.paths.clear();  // of each image, for comparing data sets: not for counting
  return datasets_.emplace(name, std::move(info)).first->second;
}

const ClipSizes& StageCosts::sizes(const std::string& folder) {
  const auto [found, is_new] = sizes_.try_emplace(folder);
  if (is_new) found->second = clip_sizes(folder);
  return found->second;
}

}  // namespace filo
