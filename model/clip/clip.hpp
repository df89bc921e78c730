// CLIP's two towers (ViT image encoder, causal text encoder), frozen: weights are read, never trained.
//
// Reads a Hugging Face folder (config.json, model.safetensors, vocab.json, merges.txt) or an OpenCLIP one
// (open_clip_config.json where there is one, open_clip_model.safetensors). Nothing is tied to a size: widths, heads,
// depths, patch and image size, projection are what the files say. Weights are held in float32.
#pragma once

#include <torch/torch.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/clip/tokenizer.hpp"
#include "model/products.hpp"
#include "settings/model.hpp"

namespace filo {

enum class Activation { quick_gelu, gelu };  // x sigmoid(1.702 x); x Phi(x)

struct TowerConfig {
  int width = 0;  // C_v or D
  int layers = 0;
  int heads = 0;  // divides width
  int mlp = 0;    // hidden width of the MLP
  Activation activation = Activation::quick_gelu;
  double layer_norm_eps = 1e-5;
};

struct ClipConfig {
  TowerConfig vision;
  TowerConfig text;
  int patch = 0;           // pixels
  int image_size = 0;      // pixels, of the stored position table
  int context_length = 0;  // tokens
  int vocabulary = 0;
  int projection = 0;  // C: width of global image features and text features
};

// Reads the config of either layout, with transformers' defaults for what a Hugging Face config leaves out.
// Throws UsageError naming file, key, value and what is expected. OpenCLIP folders without a config: see
// ClipModel::load.
ClipConfig load_clip_config(const std::filesystem::path& folder);

// Weights of one pre-norm transformer layer.
struct LayerWeights {
  torch::Tensor ln1_weight, ln1_bias;  // [D]
  FrozenLinear qkv;                    // D -> 3 D: q, k, v in this order; each D are heads x head width
  FrozenLinear out;                    // D -> D
  torch::Tensor ln2_weight, ln2_bias;  // [D]
  FrozenLinear fc1, fc2;               // D -> mlp, mlp -> D
};

// A layer: x += out(attention(ln1(x))); x += fc2(activation(fc1(ln2(x)))). Attention scale: 1 / sqrt(D / heads).
// What the prompt tree runs on packed sequences; none requires a gradient.
struct TextTower {
  TowerConfig config;
  torch::Tensor token_embedding;     // [vocabulary, D]
  torch::Tensor position_embedding;  // [context_length, D]
  std::vector<LayerWeights> layers;
  torch::Tensor ln_final_weight, ln_final_bias;  // [D]
  torch::Tensor projection;  // [C, D]: feature = F::linear(ln_final(x at the end token), projection)
};

struct VisionTower {
  TowerConfig config;
  torch::Tensor patch_embedding;     // [C_v, 3, patch, patch], no bias
  torch::Tensor class_embedding;     // [C_v]
  torch::Tensor position_embedding;  // [1 + (image_size / patch)^2, C_v]
  torch::Tensor ln_pre_weight, ln_pre_bias;
  std::vector<LayerWeights> layers;
  torch::Tensor ln_post_weight, ln_post_bias;
  torch::Tensor projection;                // [C, C_v]
  Products products = Products::libtorch;  // of its attention
};

// Applied to [..., D]; differentiable.
torch::Tensor activate(const torch::Tensor& x, Activation activation);
torch::Tensor layer_norm(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, double eps);

struct VisionOptions {
  std::vector<int> layers = {6, 12, 18, 24};  // 1-based: the state after that many layers
  int vv_from = 7;                            // first layer of the V-V path
  bool aliased = false;                       // what FiLo's published code keeps, which aliases its streams
  Precision precision = Precision::fp32;      // of products and attention; norms, softmax and both streams are float32
};

// Patch tokens are the residual stream (no ln_post), without the class token, row by row from the top left.
struct VisionFeatures {
  torch::Tensor global;              // [B, C] float32: G0 = projection(ln_post(class token)), not normalised
  std::map<int, torch::Tensor> qkv;  // layer -> [B, patches, C_v] float32: P_i^qkv
  std::map<int, torch::Tensor> vv;   // layer -> [B, patches, C_v] float32: P_i^vv; only layers >= vv_from
};

// Which towers stay in memory; both are always read and checked. encode_images() throws Error without the vision tower.
enum class ClipTowers { both, text };

// Immutable after loading; const members are thread-safe. Copies of tensors share storage: do not write to them.
class ClipModel {
 public:
  // Throws UsageError naming file and tensor: missing or extra tensors, a shape other than the config's (found,
  // expected), NaN. `by`, `text_by`: who computes the image and the text tower's products on the CPU.
  static std::shared_ptr<const ClipModel> load(const std::filesystem::path& folder, torch::Device device = torch::kCPU,
                                               ClipTowers towers = ClipTowers::both, Products by = products(),
                                               Products text_by = products_of_training());
  // The same weights under another activation, of both towers. `weights`: this model's own.
  std::shared_ptr<const ClipModel> with_activation(ClipActivation activation) const;

  const ClipConfig& config() const { return config_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const TextTower& text() const { return text_; }
  const VisionTower& vision() const { return vision_; }
  torch::Device device() const { return device_; }

  // Image tower with both paths (docs/explanations/model.md, "CLIP"), without gradient. pixels [B, 3, S, S] float32,
  // normalised; S any multiple of the patch: the position table is interpolated (bicubic, align_corners=False, no
  // antialias, as transformers and FiLo do).
  //
  // From layer vv_from on a second stream starts at the QKV stream's state and adds, a layer,
  // out(softmax(V V^T / sqrt(d)) V) with V from ln1 of the QKV stream; no MLP.
  // options.aliased: the tensors that FiLo's code keeps alias its streams: qkv[vv_from - 1] and every vv[] are the
  // *final* V-V state; qkv[l] for vv_from <= l < depth also holds the attention output of layer l + 1. `global` is the
  // same in both.
  //
  // Throws UsageError: shape of pixels, S, a layer outside [1, depth] or twice, vv_from outside [1, depth].
  VisionFeatures encode_images(const torch::Tensor& pixels, const VisionOptions& options) const;

  // Text tower, padded reference (the prompt tree is the fast way). Features are not normalised; differentiable.
  // tokens [N, L] int64, L <= context_length; feature at the first end token (as argmax: it is the largest id).
  torch::Tensor encode_text(const torch::Tensor& tokens) const;  // [N, C]
  // embeddings [N, L, D] without positions (token embeddings, some replaced by learnable vectors), end_index [N] int64.
  torch::Tensor encode_embeddings(const torch::Tensor& embeddings, const torch::Tensor& end_index) const;  // [N, C]

  // Tokenizes and stacks: [N, context_length] int64 on this model's device. Throws UsageError naming the prompt that
  // does not fit.
  torch::Tensor tokens(const std::vector<std::string>& prompts) const;

 private:
  ClipModel() = default;
  ClipConfig config_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  TextTower text_;
  VisionTower vision_;
  torch::Device device_ = torch::kCPU;
};

// The CLIP that a system of these settings runs over: the folder's weights, with the activation that they name.
std::shared_ptr<const ClipModel> load_clip(const ModelSettings& settings, const std::filesystem::path& folder,
                                           torch::Device device = torch::kCPU, ClipTowers towers = ClipTowers::both);

enum class ClipSize { tiny, base, large };

// The sizes of `init-clip`: tiny (24 narrow layers at patch 14, for demos and tests), base (as ViT-B/16), large (as
// ViT-L/14@336).
ClipConfig clip_config(ClipSize size);

// Writes a Hugging Face CLIP folder with random weights that transformers opens; deterministic in `seed`, atomic.
// The image tower is initialised so that patch tokens keep local appearance at every depth.
void write_random_clip(const std::filesystem::path& folder, const ClipConfig& config, std::uint64_t seed,
                       const std::filesystem::path& vocabulary_gz);

}  // namespace filo
