#include <algorithm>
#include <cmath>

#include "base/error.hpp"
#include "checkpoint/safetensors.hpp"
#include "model/clip/clip.hpp"
#include "model/tensors.hpp"

namespace filo {
namespace {

void check_options(const VisionOptions& options, int depth) {
  if (options.vv_from < 1 || options.vv_from > depth) {
    throw UsageError("clip: vv_from", "found " + std::to_string(options.vv_from) + ", expected 1 to " +
                                          std::to_string(depth) + ", the depth of the image tower");
  }
  for (std::size_t i = 0; i < options.layers.size(); ++i) {
    const int layer = options.layers[i];
    if (layer < 1 || layer > depth) {
      throw UsageError("clip: layers", "found " + std::to_string(layer) + ", expected 1 to " + std::to_string(depth) +
                                           ", the depth of the image tower");
    }
    if (std::count(options.layers.begin(), options.layers.end(), layer) > 1) {
      throw UsageError("clip: layers", "layer " + std::to_string(layer) + " is there twice");
    }
  }
}

void check_pixels(const torch::Tensor& pixels, int patch) {
  const std::string where = "clip: pixels";
  expect_shape(pixels, {-1, 3, -1, -1}, where);
  if (pixels.scalar_type() != torch::kFloat32) throw UsageError(where, "expected float32");
  const auto height = pixels.size(2), width = pixels.size(3);
  if (pixels.size(0) < 1 || height != width || height < patch || height % patch != 0) {
    throw UsageError(where, "shape " + shape_to_string(pixels.sizes()) +
                                ", expected [B, 3, S, S] with S a multiple of the patch, " + std::to_string(patch));
  }
}

// The stored table for its own grid, interpolated for another: [1 + grid^2, C_v].
torch::Tensor positions_for(const VisionTower& tower, std::int64_t grid) {
  const torch::Tensor& table = tower.position_embedding;
  if (table.size(0) == 1 + grid * grid) return table;
  const auto stored_grid = static_cast<std::int64_t>(std::llround(std::sqrt(static_cast<double>(table.size(0) - 1))));
  const auto patches = table.slice(0, 1).t().reshape({1, table.size(1), stored_grid, stored_grid});
  const std::vector<std::int64_t> size = {grid, grid};
  const auto resized = at::upsample_bicubic2d(patches, size, /*align_corners=*/false);
  return torch::cat({table.slice(0, 0, 1), resized.flatten(2).squeeze(0).t()});
}

torch::Tensor embed(const torch::Tensor& pixels, const VisionTower& tower) {
  const auto patches = torch::conv2d(pixels, tower.patch_embedding, {}, /*stride=*/tower.patch_embedding.size(3));
  const auto tokens = patches.flatten(2).transpose(1, 2);
  const auto class_token = tower.class_embedding.expand({pixels.size(0), 1, -1});
  const auto x = torch::cat({class_token, tokens}, 1) + positions_for(tower, patches.size(2));
  return layer_norm(x, tower.ln_pre_weight, tower.ln_pre_bias, tower.config.layer_norm_eps);
}

// softmax(Q K^T / sqrt(d)) V of [B, heads, N, d], through the output projection.
torch::Tensor attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                        const LayerWeights& layer) {
  const auto mixed = at::scaled_dot_product_attention(q, k, v);
  return torch::linear(mixed.transpose(1, 2).flatten(2), layer.out_weight, layer.out_bias);
}

torch::Tensor patch_tokens(const torch::Tensor& x) { return x.slice(1, 1).clone(at::MemoryFormat::Contiguous); }

bool contains(const std::vector<int>& layers, int layer) { return std::ranges::find(layers, layer) != layers.end(); }

// The last layer whose V-V state anybody asks for; 0: none.
int last_vv_layer(const VisionOptions& options, int depth) {
  if (options.aliased) {
    const bool needed = std::ranges::any_of(options.layers, [&](int layer) { return layer >= options.vv_from - 1; });
    return needed ? depth : 0;
  }
  const int last = options.layers.empty() ? 0 : *std::ranges::max_element(options.layers);
  return last >= options.vv_from ? last : 0;
}

// What FiLo's in-place additions make of the kept tensors: `vv_state` [B, N, C_v] is the final V-V state.
void keep_aliases(VisionFeatures& features, const torch::Tensor& vv_state, const VisionOptions& options) {
  for (const int layer : options.layers) {
    if (layer == options.vv_from - 1) features.qkv[layer] = patch_tokens(vv_state);
    if (layer >= options.vv_from) features.vv[layer] = patch_tokens(vv_state);
  }
}

}  // namespace

VisionFeatures ClipModel::encode_images(const torch::Tensor& pixels, const VisionOptions& options) const {
  const torch::NoGradGuard no_grad;
  if (!vision_.class_embedding.defined())
    throw Error("model: CLIP", "images cannot be encoded: only the text tower was loaded (ClipTowers::text)");
  const TowerConfig& tower = vision_.config;
  check_options(options, tower.layers);
  check_pixels(pixels, config_.patch);
  const int vv_until = last_vv_layer(options, tower.layers);

  VisionFeatures features;
  torch::Tensor x = embed(pixels.to(device_), vision_);
  torch::Tensor vv_state;
  const auto batch = x.size(0), tokens = x.size(1), width = x.size(2);
  for (int number = 1; number <= tower.layers; ++number) {
    const LayerWeights& layer = vision_.layers[static_cast<std::size_t>(number - 1)];
    const auto normalized = layer_norm(x, layer.ln1_weight, layer.ln1_bias, tower.layer_norm_eps);
    const auto qkv = torch::linear(normalized, layer.qkv_weight, layer.qkv_bias)
                         .view({batch, tokens, 3, tower.heads, width / tower.heads})
                         .permute({2, 0, 3, 1, 4});  // [3, B, heads, N, d]
    if (number >= options.vv_from && number <= vv_until) {
      if (number == options.vv_from) vv_state = x;
      vv_state = vv_state + attention(qkv[2], qkv[2], qkv[2], layer);
      if (!options.aliased && contains(options.layers, number)) features.vv[number] = patch_tokens(vv_state);
    }
    x = x + attention(qkv[0], qkv[1], qkv[2], layer);
    if (options.aliased && number > options.vv_from && contains(options.layers, number - 1)) {
      features.qkv[number - 1] =
          patch_tokens(x);  // the kept tensor is the one that this layer's attention was added to
    }
    const auto hidden = torch::linear(layer_norm(x, layer.ln2_weight, layer.ln2_bias, tower.layer_norm_eps),
                                      layer.fc1_weight, layer.fc1_bias);
    x = x + torch::linear(activate(hidden, tower.activation), layer.fc2_weight, layer.fc2_bias);
    if (contains(options.layers, number)) features.qkv[number] = patch_tokens(x);
  }
  if (options.aliased && vv_until > 0) keep_aliases(features, vv_state, options);
  const auto class_state =
      layer_norm(x.select(1, 0), vision_.ln_post_weight, vision_.ln_post_bias, tower.layer_norm_eps);
  features.global = torch::linear(class_state, vision_.projection);
  return features;
}

}  // namespace filo
