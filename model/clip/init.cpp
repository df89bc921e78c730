// Random weights for demos and tests. What matters is that features carry information although nothing was trained:
// - patch embedding: the lowest frequencies (DCT) of the patch in brightness and two colour contrasts, whitened, then
// rotated;
// - a constant in the position table that keeps a patch's contrast visible behind the first LayerNorm;
// - attention in the image tower subtracts part of what it attends to, so a stream holds its patch against its
// surroundings;
// - small residual branches, so that depth mixes in nonlinear features without drowning the patch.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/json.hpp"
#include "base/random.hpp"
#include "model/clip/clip.hpp"
#include "model/tensors.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
using Shape = std::vector<std::int64_t>;

// Every tensor has a random stream of its own, so that sizes do not shift each other's numbers.
class RandomTensors {
 public:
  explicit RandomTensors(std::uint64_t seed) : seed_(seed) {}

  torch::Tensor normal(const std::string& name, const Shape& shape, double deviation) const {
    torch::Tensor tensor = torch::empty(shape, torch::kFloat32);
    Random random(seed_, name);
    auto* values = tensor.data_ptr<float>();
    for (std::int64_t i = 0; i < tensor.numel(); ++i) values[i] = static_cast<float>(deviation * random.normal());
    return tensor;
  }

  // Orthonormal columns when rows >= columns, orthonormal rows otherwise (Gram-Schmidt, float64).
  torch::Tensor rotation(const std::string& name, std::int64_t rows, std::int64_t columns) const {
    const bool tall = rows >= columns;
    const std::int64_t count = std::min(rows, columns), length = std::max(rows, columns);
    torch::Tensor basis = normal(name, {count, length}, 1).to(torch::kFloat64);
    for (std::int64_t i = 0; i < count; ++i) {
      torch::Tensor row = basis[i];
      for (int pass = 0; i > 0 && pass < 2; ++pass) {  // twice is enough
        const auto before = basis.slice(0, 0, i);
        row.sub_(before.t().mv(before.mv(row)));
      }
      row.div_(row.norm());
    }
    return (tall ? basis.t() : basis).to(torch::kFloat32).contiguous();
  }

 private:
  std::uint64_t seed_;
};

struct Frequency {
  int channel, u, v;  // colour axis, horizontal and vertical index
  double order;       // sorts from coarse to fine
};

// The patch's DCT frequencies from coarse to fine; colour contrasts count as finer than brightness.
std::vector<Frequency> frequencies(int patch) {
  std::vector<Frequency> all;
  for (int channel = 0; channel < 3; ++channel) {
    for (int v = 0; v < patch; ++v) {
      for (int u = 0; u < patch; ++u) {
        const double radius = std::hypot(u, v);
        all.push_back({channel, u, v, (channel == 0 ? 1.0 : 1.8) * radius});
      }
    }
  }
  std::ranges::stable_sort(all, {}, &Frequency::order);
  return all;
}

// [C_v, 3, patch, patch]
torch::Tensor patch_filters(const RandomTensors& random, int width, int patch) {
  constexpr double colour[3][3] = {{1 / 3.0, 1 / 3.0, 1 / 3.0}, {0.5, 0, -0.5}, {-0.25, 0.5, -0.25}};
  constexpr double gain = 3;
  std::vector<Frequency> chosen = frequencies(patch);
  chosen.resize(std::min(chosen.size(), static_cast<std::size_t>(width)));
  const auto count = static_cast<std::int64_t>(chosen.size());
  torch::Tensor basis = torch::empty({count, 3, patch, patch});
  auto values = basis.accessor<float, 4>();
  for (std::int64_t i = 0; i < count; ++i) {
    const auto& [channel, u, v, order] = chosen[static_cast<std::size_t>(i)];
    // Natural images fall off as 1 / frequency: this makes all coefficients of about the same size.
    const double scale =
        gain * (1 + std::hypot(u, v)) / (patch * patch) * (u ? std::numbers::sqrt2 : 1) * (v ? std::numbers::sqrt2 : 1);
    for (int y = 0; y < patch; ++y) {
      for (int x = 0; x < patch; ++x) {
        const double wave =
            std::cos(std::numbers::pi * (x + 0.5) * u / patch) * std::cos(std::numbers::pi * (y + 0.5) * v / patch);
        for (int c = 0; c < 3; ++c) values[i][c][y][x] = static_cast<float>(scale * colour[channel][c] * wave);
      }
    }
  }
  const auto rotation = random.rotation("vision.patch_embedding", width, count);
  return torch::mm(rotation, basis.flatten(1)).view({width, 3, patch, patch});
}

void put_norm(TensorMap& tensors, const std::string& name, std::int64_t width) {
  tensors[name + ".weight"] = torch::ones({width});
  tensors[name + ".bias"] = torch::zeros({width});
}

void put_linear(TensorMap& tensors, const std::string& name, const torch::Tensor& weight) {
  tensors[name + ".weight"] = weight.contiguous();
  tensors[name + ".bias"] = torch::zeros({weight.size(0)});
}

std::string layer_prefix(const std::string& tower, int i) {
  return tower + ".encoder.layers." + std::to_string(i) + ".";
}

void put_vision_layer(TensorMap& tensors, const RandomTensors& random, const TowerConfig& tower, int i) {
  constexpr double sharpness = 1.5;    // of attention, in standard deviations of its logits
  constexpr double subtraction = 0.1;  // share of the surroundings that a layer takes away
  constexpr double mlp_scale = 0.25;   // size of an MLP branch beside the stream
  const std::string prefix = layer_prefix("vision_model", i);
  const std::int64_t width = tower.width, mlp = tower.mlp;
  const double unit = 1 / std::sqrt(static_cast<double>(width));
  put_norm(tensors, prefix + "layer_norm1", width);
  put_norm(tensors, prefix + "layer_norm2", width);
  const auto query = random.normal(prefix + "query", {width, width}, unit * std::sqrt(sharpness));
  const auto value = random.rotation(prefix + "value", width, width);
  const auto noise = random.normal(prefix + "out", {width, width}, 0.5 * unit);
  put_linear(tensors, prefix + "self_attn.q_proj", query);
  // Keys near the queries: like attends to like, as in trained towers.
  put_linear(tensors, prefix + "self_attn.k_proj", query + random.normal(prefix + "key", {width, width}, unit));
  put_linear(tensors, prefix + "self_attn.v_proj", value);
  put_linear(tensors, prefix + "self_attn.out_proj", subtraction * (noise - value.t()));
  put_linear(tensors, prefix + "mlp.fc1", random.normal(prefix + "fc1", {mlp, width}, unit));
  put_linear(tensors, prefix + "mlp.fc2",
             random.normal(prefix + "fc2", {width, mlp}, mlp_scale / std::sqrt(0.3 * static_cast<double>(mlp))));
}

void put_vision(TensorMap& tensors, const RandomTensors& random, const ClipConfig& config) {
  const std::int64_t width = config.vision.width;
  const std::int64_t grid = config.image_size / config.patch;
  const std::string prefix = "vision_model.embeddings.";
  tensors[prefix + "class_embedding"] = random.normal(prefix + "class_embedding", {width}, 1);
  tensors[prefix + "patch_embedding.weight"] = patch_filters(random, config.vision.width, config.patch);
  const auto constant = random.normal(prefix + "constant", {1, width}, 1);
  tensors[prefix + "position_embedding.weight"] =
      random.normal(prefix + "position_embedding", {1 + grid * grid, width}, 0.02) + constant;
  put_norm(tensors, "vision_model.pre_layrnorm", width);
  for (int i = 0; i < config.vision.layers; ++i) put_vision_layer(tensors, random, config.vision, i);
  put_norm(tensors, "vision_model.post_layernorm", width);
  const double unit = 1 / std::sqrt(static_cast<double>(width));
  tensors["visual_projection.weight"] = random.normal("visual_projection", {config.projection, width}, unit);
}

// As OpenAI initialised it, so that learnable prompt vectors (standard deviation 0.02) are of a token's size.
void put_text(TensorMap& tensors, const RandomTensors& random, const ClipConfig& config) {
  const std::int64_t width = config.text.width, mlp = config.text.mlp;
  const double unit = 1 / std::sqrt(static_cast<double>(width));
  const double branch = unit / std::sqrt(2.0 * config.text.layers);
  const std::string embeddings = "text_model.embeddings.";
  for (const auto& [name, rows, deviation] : {std::tuple{"token_embedding.weight", config.vocabulary, 0.02},
                                              std::tuple{"position_embedding.weight", config.context_length, 0.01}}) {
    tensors[embeddings + name] = random.normal(embeddings + name, {rows, width}, deviation);
  }
  for (int i = 0; i < config.text.layers; ++i) {
    const std::string prefix = layer_prefix("text_model", i);
    put_norm(tensors, prefix + "layer_norm1", width);
    put_norm(tensors, prefix + "layer_norm2", width);
    for (const char* name : {"q_proj", "k_proj", "v_proj"}) {
      put_linear(tensors, prefix + "self_attn." + name, random.normal(prefix + name, {width, width}, unit));
    }
    put_linear(tensors, prefix + "self_attn.out_proj", random.normal(prefix + "out_proj", {width, width}, branch));
    put_linear(tensors, prefix + "mlp.fc1", random.normal(prefix + "fc1", {mlp, width}, unit / std::numbers::sqrt2));
    put_linear(tensors, prefix + "mlp.fc2", random.normal(prefix + "fc2", {width, mlp}, branch));
  }
  put_norm(tensors, "text_model.final_layer_norm", width);
  tensors["text_projection.weight"] = random.normal("text_projection", {config.projection, width}, unit);
}

const char* activation_name(Activation activation) { return activation == Activation::gelu ? "gelu" : "quick_gelu"; }

Json tower_json(const TowerConfig& tower, const char* model_type, int projection) {
  return {{"model_type", model_type},
          {"hidden_size", tower.width},
          {"num_hidden_layers", tower.layers},
          {"num_attention_heads", tower.heads},
          {"intermediate_size", tower.mlp},
          {"projection_dim", projection},
          {"hidden_act", activation_name(tower.activation)},
          {"layer_norm_eps", tower.layer_norm_eps}};
}

Json config_json(const ClipConfig& config) {
  Json text = tower_json(config.text, "clip_text_model", config.projection);
  text.update({{"max_position_embeddings", config.context_length}, {"vocab_size", config.vocabulary}});
  text.update({{"bos_token_id", config.vocabulary - 2},
               {"eos_token_id", config.vocabulary - 1},
               {"pad_token_id", config.vocabulary - 1}});
  Json vision = tower_json(config.vision, "clip_vision_model", config.projection);
  vision.update({{"patch_size", config.patch}, {"image_size", config.image_size}, {"num_channels", 3}});
  return {{"architectures", {"CLIPModel"}},  {"model_type", "clip"}, {"projection_dim", config.projection},
          {"torch_dtype", "float32"},        {"text_config", text},  {"vision_config", vision},
          {"logit_scale_init_value", 2.6592}};
}

Json preprocessor_json(int image_size) {
  return {{"image_processor_type", "CLIPImageProcessor"},
          {"crop_size", image_size},
          {"size", image_size},
          {"do_center_crop", true},
          {"do_normalize", true},
          {"do_resize", true},
          {"resample", 3},
          {"image_mean", {0.48145466, 0.4578275, 0.40821073}},
          {"image_std", {0.26862954, 0.26130258, 0.27577711}}};
}

}  // namespace

ClipConfig clip_config(ClipSize size) {
  const auto tower = [](int width, int layers, int heads, int mlp) {
    return TowerConfig{width, layers, heads, mlp, Activation::quick_gelu, 1e-5};
  };
  switch (size) {
    case ClipSize::tiny:
      return {tower(128, 24, 4, 256), tower(128, 4, 4, 512), 14, 336, 77, 49408, 128};
    case ClipSize::base:
      return {tower(768, 12, 12, 3072), tower(512, 12, 8, 2048), 16, 224, 77, 49408, 512};
    case ClipSize::large:
      return {tower(1024, 24, 16, 4096), tower(768, 12, 12, 3072), 14, 336, 77, 49408, 768};
  }
  throw Error("clip", "unknown size");
}

void write_random_clip(const fs::path& folder, const ClipConfig& config, std::uint64_t seed,
                       const fs::path& vocabulary_gz) {
  const bool written_before = fs::exists(folder / "config.json") && fs::exists(folder / "model.safetensors");
  if (fs::exists(folder) && !written_before && !(fs::is_directory(folder) && fs::is_empty(folder)))
    throw UsageError("clip: " + folder.string(), "exists and is not a model folder: it is not overwritten");
  const torch::NoGradGuard no_grad;
  AtomicFolder output(folder);
  write_tokenizer_files(vocabulary_gz, output.path(), config.context_length);
  write_json(output.path() / "config.json", config_json(config));
  write_json(output.path() / "preprocessor_config.json", preprocessor_json(config.image_size));
  const RandomTensors random(seed);
  TensorMap tensors = {{"logit_scale", torch::tensor(2.6592F)}};
  put_text(tensors, random, config);
  put_vision(tensors, random, config);
  save_tensors(output.path() / "model.safetensors", tensors, {{"format", "pt"}});
  output.commit();
}

}  // namespace filo
