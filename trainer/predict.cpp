#include "trainer/predict.hpp"

#include <torch/torch.h>

#include <algorithm>
#include <map>

#include "base/error.hpp"
#include "data/images/image.hpp"
#include "data/samples/samples.hpp"
#include "model/systems/system.hpp"
#include "settings/clip_digest.hpp"
#include "trainer/device.hpp"
#include "trainer/encoded_images.hpp"
#include "trainer/stage_inputs.hpp"
#include "trainer/tiled_image.hpp"
#include "workspace/checkpoint_files.hpp"
#include "workspace/layout.hpp"

namespace filo {
namespace {

constexpr std::size_t descriptions_kept = 5;

// `output`: without an extension; `map`: [height, width].
Json write_outputs(const std::filesystem::path& output, const std::filesystem::path& image, const Image& photo,
                   const torch::Tensor& map) {
  const std::string picture = output.string() + ".png", tensors = output.string() + ".safetensors";
  std::error_code error;
  if (std::filesystem::equivalent(picture, image, error))
    throw UsageError("predict: --out " + output.parent_path().string(),
                     "the heat map would take the place of the image " + image.string() + ", expected another folder");
  std::filesystem::create_directories(output.parent_path());
  // One image has no class to scale by: the map's own range is [0, 1] by construction (equation 4).
  const torch::Tensor shown = map.clamp(0, 1).contiguous();
  const auto height = static_cast<int>(map.size(0)), width = static_cast<int>(map.size(1));
  write_png(picture, join_horizontally({photo, overlay_heat_map(photo, shown.data_ptr<float>(), height, width)}));
  save_tensors(tensors, {{"map", map}});
  return {{"heat_map", picture}, {"map", tensors}};
}

// A key that is none of the images would quietly leave its image without boxes.
ImageBoxes boxes_of_predict(const PredictOptions& options) {
  if (!options.boxes) return std::nullopt;
  ImageBoxes boxes = read_boxes(*options.boxes);
  for (const auto& [image, list] : *boxes)
    if (std::find(options.images.begin(), options.images.end(), std::filesystem::path(image)) == options.images.end())
      throw UsageError("predict: " + options.boxes->string() + ": " + image,
                       "is not one of the images to score; expected their paths as given");
  return boxes;
}

bool is_checkpoint(const std::filesystem::path& folder) {
  std::error_code error;
  return std::filesystem::is_regular_file(settings_file(folder), error) &&
         std::filesystem::is_regular_file(parameters_file(folder), error);
}

// People name the stage's folder, or a file of the checkpoint.
void check_is_checkpoint(const std::filesystem::path& folder) {
  if (is_checkpoint(folder)) return;
  std::string missing, near;
  for (const char* file : {settings_name, parameters_name})
    if (std::error_code error; !std::filesystem::is_regular_file(folder / file, error))
      missing += (missing.empty() ? "" : " and no ") + std::string(file);
  for (const auto& other : {folder / artifact_name::checkpoint, folder / artifact_name::bundle, folder.parent_path()})
    if (near.empty() && is_checkpoint(other)) near = "; did you mean " + other.string() + "?";
  throw UsageError("predict: --checkpoint " + folder.string(),
                   (std::filesystem::exists(folder) ? "found no " + missing + " in it" : "found no such folder") +
                       ", expected a checkpoint, a folder with settings.json and params.safetensors: "
                       "WORKSPACE/stages/KEY/checkpoint of a training (`filo report NAME --json` lists them) or "
                       "WORKSPACE/stages/KEY/bundle of an export" +
                       near);
}

ImageBatch batch_of(const VisionFeatures& features, const std::string& class_name) {
  ImageBatch batch;
  batch.global = features.global;
  batch.qkv = features.qkv;
  batch.vv = features.vv;
  batch.classes = {class_name};
  return batch;
}

// A bundle has its weights with it.
std::filesystem::path clip_folder_of(const PredictOptions& options, const ModelSettings& model) {
  if (options.clip) return *options.clip;
  const std::filesystem::path bundled = options.checkpoint / bundled_clip;
  return std::filesystem::is_directory(bundled) ? bundled : std::filesystem::path(model.clip);
}

}  // namespace

std::vector<std::filesystem::path> output_names(const std::vector<std::filesystem::path>& images) {
  namespace fs = std::filesystem;
  std::vector<fs::path> whole;
  for (const auto& image : images) whole.push_back(fs::absolute(image).lexically_normal());
  fs::path common = whole.empty() ? fs::path() : whole[0].parent_path();
  for (const auto& path : whole)
    while (!path.string().starts_with((common / "").string())) common = common.parent_path();
  std::map<fs::path, int> shared, seen;
  const auto without_extension = [&](const fs::path& path) {
    return path.lexically_relative(common).replace_extension();
  };
  for (const auto& path : whole) {
    ++shared[without_extension(path)];
    if (++seen[path] > 1) throw UsageError("predict: " + path.string(), "is given twice, expected each image once");
  }
  std::vector<fs::path> names;
  for (const auto& path : whole) {
    const fs::path name = without_extension(path);
    names.push_back(shared.at(name) > 1 ? path.lexically_relative(common) : name);
  }
  return names;
}

Json predict(const PredictOptions& options) {
  const torch::NoGradGuard no_grad;
  const Device device = open_device(options.threads);
  check_is_checkpoint(options.checkpoint);
  const std::filesystem::path settings_path = settings_file(options.checkpoint);
  const Json settings = read_json(settings_path);
  for (const char* key : {"model", "clip", "descriptions"})
    if (!settings.is_object() || !settings.contains(key))
      throw UsageError("predict: " + settings_path.string() + ": " + key, "missing");
  const ModelSettings model_settings = model_settings_from_json(settings["model"], settings_path.string());
  const Descriptions descriptions = options.descriptions
                                        ? load_descriptions(*options.descriptions)
                                        : descriptions_from_json(settings["descriptions"], settings_path.string());
  const std::filesystem::path clip_folder = clip_folder_of(options, model_settings);
  const std::string trained_over = settings["clip"].value("digest", "");  // "": an import that was given no weights
  if (const std::string digest = trained_over.empty() ? "" : clip_digest(clip_folder); digest != trained_over)
    throw UsageError("predict: " + clip_folder.string(), "these weights (digest " + digest +
                                                             ") are not the ones the checkpoint was trained over (" +
                                                             trained_over + ")");
  const auto clip = load_clip(model_settings, clip_folder, compute_device());
  const auto system = make_system(model_settings, descriptions, clip, 0);
  const std::filesystem::path parameters = parameters_file(options.checkpoint);
  system->load_parameters(load_tensors(parameters), parameters.string());

  FewShotMemory memory;
  for (const auto& path : options.normal_images)
    encode_tiles(*clip, model_settings, decode_image(path, options.grey16),
                 [&](const Tile&, const VisionFeatures& features) { memory.add(options.class_name, features.qkv); });
  TestingOptions testing;
  testing.memory = memory.empty() ? nullptr : &memory;
  const ImageBoxes boxes = boxes_of_predict(options);
  const auto names = options.out ? output_names(options.images) : std::vector<std::filesystem::path>();
  Json results = Json::array();
  for (std::size_t i = 0; i < options.images.size(); ++i) {
    const std::filesystem::path& path = options.images[i];
    const Image image = decode_image(path, options.grey16);
    const ImageSize size = {image.width, image.height};
    TiledImage whole(size, tiles_of(size, model_settings.tiling));
    encode_tiles(*clip, model_settings, image, [&](const Tile& tile, const VisionFeatures& features) {
      ImageBatch batch = batch_of(features, options.class_name);
      if (boxes) batch.boxes = {boxes_of_sample(*boxes, tile_sample(path.string(), size, tile))};
      const ForwardOutput output = system->test_forward(batch, testing);
      const torch::Tensor map = output.map[0].to(torch::kCPU, torch::kFloat).contiguous();
      whole.add({map.data_ptr<float>(), static_cast<std::size_t>(map.numel())}, output.score[0].item<float>(),
                interpretation(output.prompts[0]));
    });
    const ImageSize joined = joined_size(size, model_settings.tiling, model_settings.image_size);
    const std::vector<float> values = whole.map(joined);
    const torch::Tensor map = torch::tensor(values).view({joined.height, joined.width});
    Json result = {{"image", path.string()},
                   {"score", whole.score()},
                   {"max", *std::ranges::max_element(values)},
                   {"descriptions", whole.interpretation()}};
    if (options.out) result.update(write_outputs(*options.out / names[i], path, to_rgb(image), map));
    results.push_back(result);
  }
  return results;
}

Json interpretation(const std::vector<PromptMatch>& prompts) {
  Json entries = Json::array();
  const std::vector<RankedDescription> ranked = rank_descriptions(prompts);
  for (std::size_t i = 0; i < std::min(ranked.size(), descriptions_kept); ++i)
    entries.push_back({{"description", ranked[i].description},
                       {"position", ranked[i].position},
                       {"similarity", ranked[i].similarity}});
  return entries;
}

}  // namespace filo
