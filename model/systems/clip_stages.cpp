#include "model/systems/clip_stages.hpp"

#include <algorithm>
#include <set>

#include "base/error.hpp"

namespace filo {
namespace {

void expect_box(const Box& box, std::size_t image) {
  const bool in_order = lowest_corner <= box.x0 && box.x0 < box.x1 && box.x1 <= highest_corner &&
                        lowest_corner <= box.y0 && box.y0 < box.y1 && box.y1 <= highest_corner;
  if (in_order) return;
  throw UsageError("model: image " + std::to_string(image) + ": box [" + std::to_string(box.x0) + ", " +
                       std::to_string(box.y0) + ", " + std::to_string(box.x1) + ", " + std::to_string(box.y1) + "]",
                   "far outside the image or upside down, expected x0 < x1 and y0 < y1, from -1 to 2");
}

}  // namespace

std::vector<int> vv_layers(const ModelSettings& settings) {
  std::vector<int> layers;
  if (settings.mdci.kernels.empty()) return layers;
  std::copy_if(settings.layers.begin(), settings.layers.end(), std::back_inserter(layers),
               [&](int layer) { return layer >= settings.vv_from; });
  return layers;
}

std::vector<std::string> stage_names(const ModelSettings& settings) {
  std::vector<std::string> stages;
  for (const int layer : settings.layers) stages.push_back("qkv." + std::to_string(layer));
  for (const int layer : vv_layers(settings)) stages.push_back("vv." + std::to_string(layer));
  return stages;
}

void expect_model_settings(const ModelSettings& settings, const ClipConfig& clip) {
  const auto fail = [](const std::string& key, const std::string& problem) {
    throw UsageError("model: " + key, problem);
  };
  if (settings.image_size <= 0 || settings.image_size % clip.patch != 0) {
    fail("image_size", std::to_string(settings.image_size) + ", expected a multiple of the patch, " +
                           std::to_string(clip.patch) + " pixels");
  }
  if (settings.layers.empty()) fail("layers", "none, expected at least one");
  std::set<int> seen;
  for (const int layer : settings.layers) {
    if (layer < 1 || layer > clip.vision.layers) {
      fail("layers", std::to_string(layer) + ", expected 1 to " + std::to_string(clip.vision.layers) +
                         ", the depth of the image tower");
    }
    if (!seen.insert(layer).second) fail("layers", std::to_string(layer) + " twice, expected each layer once");
  }
  if (settings.prompts.vectors < 1) {
    fail("prompts.vectors", std::to_string(settings.prompts.vectors) + ", expected at least 1");
  }
  for (const auto& [height, width] : settings.mdci.kernels) {
    if (height < 1 || width < 1 || height % 2 == 0 || width % 2 == 0) {
      fail("mdci.kernels", "[" + std::to_string(height) + ", " + std::to_string(width) + "], expected odd sizes");
    }
  }
}

void expect_batch(const ImageBatch& batch, const ClipConfig& clip) {
  const auto images = static_cast<std::int64_t>(batch.classes.size());
  if (images == 0) throw UsageError("model: batch", "no image, expected at least one");
  if (!batch.global.defined()) throw UsageError("model: global", "missing, expected [B, C]");
  expect_shape(batch.global, {images, clip.projection}, "model: global");
  expect_finite(batch.global, "model: global");
  if (batch.boxes.empty()) return;
  if (batch.boxes.size() != batch.classes.size()) {
    throw UsageError("model: boxes", std::to_string(batch.boxes.size()) + " lists, expected one for each of " +
                                         std::to_string(images) + " images");
  }
  for (std::size_t image = 0; image < batch.boxes.size(); ++image) {
    for (const Box& box : batch.boxes[image]) expect_box(box, image);
  }
}

torch::Tensor stage_patches(const std::map<int, torch::Tensor>& features, const char* kind, int layer,
                            std::int64_t images, const ModelSettings& settings, const ClipConfig& clip) {
  const std::string where = std::string("model: ") + kind + "." + std::to_string(layer);
  const auto found = features.find(layer);
  if (found == features.end() || !found->second.defined()) throw UsageError(where, "missing, expected [B, P, C_v]");
  const std::int64_t side = settings.image_size / clip.patch;
  expect_shape(found->second, {images, side * side, clip.vision.width}, where);
  if (found->second.scalar_type() != torch::kFloat32) {
    throw UsageError(where, std::string("type ") + c10::toString(found->second.scalar_type()) + ", expected float32");
  }
  return found->second;
}

}  // namespace filo
