#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "base/error.hpp"
#include "checkpoint/safetensors.hpp"
#include "model/clip/clip.hpp"
#include "model/kernels/tower_rows.hpp"
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

// A product of small blocks by oneDNN. In bfloat16 the right side
// lies in pairs of rows.
template <typename T>
void block_product(std::int64_t rows, std::int64_t columns, std::int64_t inner, const T* left, std::int64_t left_stride,
                   const T* right, float* out, std::int64_t out_stride) {
  at::native::cpublas::brgemm(rows, columns, inner, left_stride, columns, out_stride, /*add_C=*/false, left, right,
                              out);
}

// Whether oneDNN has it for this CPU.
template <typename T>
bool has_block_product() {
  static const bool has = [] {
    const std::vector<T> ones(4, T(1.0F));
    std::vector<float> out(4);
    try {
      block_product<T>(2, 2, 2, ones.data(), 2, ones.data(), out.data(), 2);
      return true;
    } catch (const c10::Error&) {
      return false;
    }
  }();
  return has;
}

constexpr std::int64_t queries_at_once = 64;  // their float32 scores of 1370 keys fill a third of a core's L2 cache

// What attention_by_blocks() multiplies, of T: queries [B, heads, N, d], scaled, keys [B, heads, d, N] and values
// [B, heads, N, d], these two in pairs of rows in bfloat16, an odd last one with a row of zeros.
struct AttentionBlocks {
  torch::Tensor queries, keys, values;
};

template <typename T>
AttentionBlocks attention_blocks(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v) {
  const auto type = c10::CppTypeToScalarType<T>::value;
  const auto batch = q.size(0), heads = q.size(1), count = q.size(2), depth = q.size(3);
  const torch::Tensor queries = (q * (1 / std::sqrt(static_cast<double>(depth)))).to(type).contiguous();
  if constexpr (sizeof(T) == sizeof(float)) return {queries, k.transpose(2, 3).contiguous(), v.contiguous()};
  const torch::Tensor keys = k.to(type).reshape({batch, heads, count, depth / 2, 2}).transpose(2, 3).contiguous();
  const torch::Tensor padded = torch::constant_pad_nd(v.to(type), {0, 0, 0, count % 2});
  return {queries, keys, padded.reshape({batch, heads, (count + 1) / 2, 2, depth}).transpose(3, 4).contiguous()};
}

// softmax(Q K^T / sqrt(d)) V of [B, heads, N, d] float32 or T -> [B, N, heads x d] float32; products of T, sums and
// softmax float32. The scores of a block of queries never leave the cache. Bits: the same kernels type for bfloat16.
template <typename T, typename Bits>
torch::Tensor attention_by_blocks(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v) {
  const auto batch = q.size(0), heads = q.size(1), keys = q.size(2), depth = q.size(3);
  const auto rows = sizeof(T) == sizeof(float) ? keys : (keys + 1) / 2 * 2;  // of V
  const AttentionBlocks of = attention_blocks<T>(q, k, v);
  const auto data = [](const torch::Tensor& tensor) { return static_cast<const T*>(tensor.const_data_ptr()); };
  torch::Tensor out = torch::empty({batch, keys, heads, depth}, torch::kFloat32);
  const auto exponentials = kernels::tower_rows<Bits>().exponentials;
  const auto blocks = (keys + queries_at_once - 1) / queries_at_once;
  at::parallel_for(0, batch * heads * blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> scores(static_cast<std::size_t>(queries_at_once * keys));
    std::vector<Bits> weights(static_cast<std::size_t>(queries_at_once * rows));
    for (std::int64_t i = begin; i < end; ++i) {
      const auto head = i / blocks, first = i % blocks * queries_at_once;
      const auto count = std::min(queries_at_once, keys - first);
      block_product<T>(count, keys, depth, data(of.queries) + (head * keys + first) * depth, depth,
                       data(of.keys) + head * depth * keys, scores.data(), keys);
      std::array<float, queries_at_once> sums;
      for (std::int64_t row = 0; row < count; ++row)
        sums[static_cast<std::size_t>(row)] =
            exponentials(scores.data() + row * keys, keys, weights.data() + row * rows);
      float* mixed = out.data_ptr<float>() + ((head / heads * keys + first) * heads + head % heads) * depth;
      block_product<T>(count, depth, rows, reinterpret_cast<const T*>(weights.data()), rows,
                       data(of.values) + head * rows * depth, mixed, heads * depth);
      for (std::int64_t row = 0; row < count; ++row) {
        const float scale = 1 / sums[static_cast<std::size_t>(row)];
        for (std::int64_t c = 0; c < depth; ++c) mixed[row * heads * depth + c] *= scale;
      }
    }
    at::native::cpublas::brgemm_release(sizeof(T) != sizeof(float));
  });
  return out.flatten(2);
}

// softmax(Q K^T / sqrt(d)) V of [B, heads, N, d], through the output projection.
torch::Tensor attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                        const LayerWeights& layer, Precision precision, Products by) {
  const bool by_blocks = by == Products::onednn && q.device().is_cpu();
  torch::Tensor mixed;
  if (precision == Precision::fp32 && by_blocks && has_block_product<float>()) {
    mixed = attention_by_blocks<float, float>(q, k, v);
  } else if (precision == Precision::bf16 && by_blocks && q.size(3) % 2 == 0 && has_block_product<at::BFloat16>()) {
    mixed = attention_by_blocks<at::BFloat16, kernels::Bfloat16>(q, k, v);
  } else {
    mixed = at::scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2);
  }
  return layer.out(mixed, precision);
}

// The products' results in the tower: float32, or bfloat16 where that is the precision.
torch::Tensor project(const FrozenLinear& linear, const torch::Tensor& x, Precision precision) {
  return precision == Precision::bf16 ? linear.in_bfloat16(x) : linear(x);
}

template <typename T>
void quick_gelu_(torch::Tensor& x) {
  T* data = static_cast<T*>(x.data_ptr());
  at::parallel_for(0, x.numel(), 1 << 15, [data](std::int64_t begin, std::int64_t end) {
    kernels::tower_rows<T>().quick_gelu(data + begin, end - begin);
  });
}

// As activate(), of float32 or bfloat16; takes x's memory where it can.
torch::Tensor activated(torch::Tensor x, Activation activation) {
  const bool in_place = activation == Activation::quick_gelu && x.device().is_cpu() && x.is_contiguous();
  if (!in_place) return activate(x.to(torch::kFloat32), activation);
  if (x.scalar_type() == torch::kFloat32) {
    quick_gelu_<float>(x);
  } else {
    quick_gelu_<kernels::Bfloat16>(x);
  }
  return x;
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

// Tokens x width of an image from which a CPU encodes images one by one: what a layer makes of one fills the
// processor's caches, and a batch's falls out of them between two layers.
constexpr std::int64_t one_at_a_time_from = std::int64_t{1} << 19;

// The features of one batch after another, as those of one.
VisionFeatures joined(const std::vector<VisionFeatures>& parts) {
  const auto all = [&](auto&& of) {
    std::vector<torch::Tensor> tensors;
    for (const VisionFeatures& part : parts) tensors.push_back(of(part));
    return torch::cat(tensors);
  };
  VisionFeatures features;
  features.global = all([](const VisionFeatures& part) { return part.global; });
  for (const auto& [layer, map] : parts.front().qkv)
    features.qkv[layer] = all([number = layer](const VisionFeatures& part) { return part.qkv.at(number); });
  for (const auto& [layer, map] : parts.front().vv)
    features.vv[layer] = all([number = layer](const VisionFeatures& part) { return part.vv.at(number); });
  return features;
}

}  // namespace

VisionFeatures ClipModel::encode_images(const torch::Tensor& pixels, const VisionOptions& options) const {
  const torch::NoGradGuard no_grad;
  if (!vision_.class_embedding.defined())
    throw Error("model: CLIP", "images cannot be encoded: only the text tower was loaded (ClipTowers::text)");
  const TowerConfig& tower = vision_.config;
  check_options(options, tower.layers);
  check_pixels(pixels, config_.patch);
  const std::int64_t side = pixels.size(2) / config_.patch;
  if (device_.is_cpu() && pixels.size(0) > 1 && (side * side + 1) * tower.width >= one_at_a_time_from) {
    std::vector<VisionFeatures> parts;
    for (std::int64_t i = 0; i < pixels.size(0); ++i) parts.push_back(encode_images(pixels.narrow(0, i, 1), options));
    return joined(parts);
  }
  const int vv_until = last_vv_layer(options, tower.layers);

  VisionFeatures features;
  torch::Tensor x = embed(pixels.to(device_), vision_);
  torch::Tensor vv_state;
  const auto batch = x.size(0), tokens = x.size(1), width = x.size(2);
  for (int number = 1; number <= tower.layers; ++number) {
    const LayerWeights& layer = vision_.layers[static_cast<std::size_t>(number - 1)];
    const auto normalized = layer_norm(x, layer.ln1_weight, layer.ln1_bias, tower.layer_norm_eps);
    const auto qkv = project(layer.qkv, normalized, options.precision)
                         .view({batch, tokens, 3, tower.heads, width / tower.heads})
                         .permute({2, 0, 3, 1, 4});  // [3, B, heads, N, d]
    if (number >= options.vv_from && number <= vv_until) {
      if (number == options.vv_from) vv_state = x;
      vv_state = vv_state + attention(qkv[2], qkv[2], qkv[2], layer, options.precision, vision_.products);
      if (!options.aliased && contains(options.layers, number)) features.vv[number] = patch_tokens(vv_state);
    }
    x = x + attention(qkv[0], qkv[1], qkv[2], layer, options.precision, vision_.products);
    if (options.aliased && number > options.vv_from && contains(options.layers, number - 1)) {
      features.qkv[number - 1] =
          patch_tokens(x);  // the kept tensor is the one that this layer's attention was added to
    }
    const auto normalized_again = layer_norm(x, layer.ln2_weight, layer.ln2_bias, tower.layer_norm_eps);
    const auto hidden = activated(project(layer.fc1, normalized_again, options.precision), tower.activation);
    x = x + layer.fc2(hidden, options.precision);
    if (contains(options.layers, number)) features.qkv[number] = patch_tokens(x);
  }
  if (options.aliased && vv_until > 0) keep_aliases(features, vv_state, options);
  const auto class_state =
      layer_norm(x.select(1, 0), vision_.ln_post_weight, vision_.ln_post_bias, tower.layer_norm_eps);
  features.global = torch::linear(class_state, vision_.projection);
  return features;
}

}  // namespace filo
