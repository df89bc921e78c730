#include "model/clip/clip.hpp"

#include <cmath>
#include <set>

#include "base/error.hpp"
#include "base/text.hpp"
#include "model/tensors.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
using Shape = std::vector<std::int64_t>;

// Hands out tensors in float32, checked, and knows afterwards which were never asked for.
class WeightReader {
 public:
  WeightReader(SafetensorsFile file, torch::Device device, Products by, Products text_by)
      : file_(std::move(file)), device_(device), by_(by), text_by_(text_by) {}

  torch::Tensor read(const std::string& name, const Shape& shape) {
    const std::string where = "clip: " + file_.path().string() + ": " + name;
    if (!file_.contains(name)) {
      const std::string near = nearest(name, file_.names());
      throw UsageError(where, "no such tensor, expected shape " + shape_to_string(shape) +
                                  (near.empty() || read_.contains(near) ? "" : "; did you mean " + near + "?"));
    }
    read_.insert(name);
    const torch::Tensor stored = to_tensor(file_.at(name), where);
    if (!stored.is_floating_point())
      throw UsageError(where, "dtype " + file_.at(name).dtype + ", expected floating point");
    expect_shape(stored, shape, where);
    const torch::Tensor weight = stored.to(torch::kFloat32);
    expect_finite(weight, where);
    return weight.to(device_);
  }

  bool contains(const std::string& name) const { return file_.contains(name); }
  Shape shape_of(const std::string& name) const { return file_.at(name).shape; }
  void ignore(const std::string& name) { read_.insert(name); }
  Products products() const { return by_; }
  // Of the tower that a tensor of this name belongs to.
  Products products_of(const std::string& name) const {
    return name.starts_with("vision") || name.starts_with("visual") ? by_ : text_by_;
  }

  // Throws when the file holds tensors that this model has no place for (a deeper model under a shallower config, say).
  void expect_all_read() const {
    for (const std::string& name : file_.names()) {
      if (read_.contains(name)) continue;
      throw UsageError(
          "clip: " + file_.path().string() + ": " + name,
          "extra tensor, shape " + shape_to_string(file_.at(name).shape) + ": the config has no place for it");
    }
  }

 private:
  SafetensorsFile file_;
  torch::Device device_;
  Products by_, text_by_;
  std::set<std::string> read_;
};

struct Towers {
  TextTower text;
  VisionTower vision;
};

void read_pair(WeightReader& reader, const std::string& name, const Shape& weight_shape, torch::Tensor& weight,
               torch::Tensor& bias) {
  weight = reader.read(name + ".weight", weight_shape);
  bias = reader.read(name + ".bias", {weight_shape[0]});
}

FrozenLinear read_linear(WeightReader& reader, const std::string& name, const Shape& weight_shape) {
  torch::Tensor weight, bias;
  read_pair(reader, name, weight_shape, weight, bias);
  return {weight, bias, reader.products_of(name)};
}

LayerWeights read_hugging_face_layer(WeightReader& reader, const std::string& prefix, const TowerConfig& tower) {
  const std::int64_t width = tower.width, mlp = tower.mlp;
  LayerWeights layer;
  read_pair(reader, prefix + "layer_norm1", {width}, layer.ln1_weight, layer.ln1_bias);
  read_pair(reader, prefix + "layer_norm2", {width}, layer.ln2_weight, layer.ln2_bias);
  std::vector<torch::Tensor> weights, biases;
  for (const char* part : {"q_proj", "k_proj", "v_proj"}) {
    torch::Tensor weight, bias;
    read_pair(reader, prefix + "self_attn." + part, {width, width}, weight, bias);
    weights.push_back(weight);
    biases.push_back(bias);
  }
  layer.qkv = FrozenLinear(torch::cat(weights), torch::cat(biases), reader.products_of(prefix));
  layer.out = read_linear(reader, prefix + "self_attn.out_proj", {width, width});
  layer.fc1 = read_linear(reader, prefix + "mlp.fc1", {mlp, width});
  layer.fc2 = read_linear(reader, prefix + "mlp.fc2", {width, mlp});
  return layer;
}

LayerWeights read_open_clip_layer(WeightReader& reader, const std::string& prefix, const TowerConfig& tower) {
  const std::int64_t width = tower.width, mlp = tower.mlp;
  LayerWeights layer;
  read_pair(reader, prefix + "ln_1", {width}, layer.ln1_weight, layer.ln1_bias);
  read_pair(reader, prefix + "ln_2", {width}, layer.ln2_weight, layer.ln2_bias);
  layer.qkv = FrozenLinear(reader.read(prefix + "attn.in_proj_weight", {3 * width, width}),
                           reader.read(prefix + "attn.in_proj_bias", {3 * width}), reader.products_of(prefix));
  layer.out = read_linear(reader, prefix + "attn.out_proj", {width, width});
  layer.fc1 = read_linear(reader, prefix + "mlp.c_fc", {mlp, width});
  layer.fc2 = read_linear(reader, prefix + "mlp.c_proj", {width, mlp});
  return layer;
}

using LayerReader = LayerWeights (*)(WeightReader&, const std::string&, const TowerConfig&);

std::vector<LayerWeights> read_layers(WeightReader& reader, const std::string& prefix, const TowerConfig& tower,
                                      LayerReader read) {
  std::vector<LayerWeights> layers;
  for (int i = 0; i < tower.layers; ++i) layers.push_back(read(reader, prefix + std::to_string(i) + ".", tower));
  return layers;
}

std::int64_t positions(const ClipConfig& config) {
  const std::int64_t grid = config.image_size / config.patch;
  return 1 + grid * grid;
}

Towers read_hugging_face(WeightReader& reader, const ClipConfig& config) {
  const std::int64_t text_width = config.text.width, width = config.vision.width;
  Towers towers;
  towers.text.config = config.text;
  towers.vision.config = config.vision;
  towers.vision.products = reader.products();
  TextTower& text = towers.text;
  text.token_embedding = reader.read("text_model.embeddings.token_embedding.weight", {config.vocabulary, text_width});
  text.position_embedding =
      reader.read("text_model.embeddings.position_embedding.weight", {config.context_length, text_width});
  text.layers = read_layers(reader, "text_model.encoder.layers.", config.text, read_hugging_face_layer);
  read_pair(reader, "text_model.final_layer_norm", {text_width}, text.ln_final_weight, text.ln_final_bias);
  text.projection = reader.read("text_projection.weight", {config.projection, text_width});

  VisionTower& vision = towers.vision;
  vision.class_embedding = reader.read("vision_model.embeddings.class_embedding", {width});
  vision.patch_embedding =
      reader.read("vision_model.embeddings.patch_embedding.weight", {width, 3, config.patch, config.patch});
  vision.position_embedding =
      reader.read("vision_model.embeddings.position_embedding.weight", {positions(config), width});
  read_pair(reader, "vision_model.pre_layrnorm", {width}, vision.ln_pre_weight, vision.ln_pre_bias);  // sic
  vision.layers = read_layers(reader, "vision_model.encoder.layers.", config.vision, read_hugging_face_layer);
  read_pair(reader, "vision_model.post_layernorm", {width}, vision.ln_post_weight, vision.ln_post_bias);
  vision.projection = reader.read("visual_projection.weight", {config.projection, width});
  for (const char* name :
       {"logit_scale", "text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"}) {
    reader.ignore(name);
  }
  return towers;
}

// Where the text tower's names begin: models with a text tower of their own kind put it under "text.".
std::string open_clip_text_prefix(const WeightReader& reader) {
  return reader.contains("text.token_embedding.weight") ? "text." : "";
}

Towers read_open_clip(WeightReader& reader, const ClipConfig& config) {
  const std::int64_t text_width = config.text.width, width = config.vision.width;
  const std::string prefix = open_clip_text_prefix(reader);
  Towers towers;
  towers.text.config = config.text;
  towers.vision.config = config.vision;
  towers.vision.products = reader.products();
  TextTower& text = towers.text;
  text.token_embedding = reader.read(prefix + "token_embedding.weight", {config.vocabulary, text_width});
  text.position_embedding = reader.read(prefix + "positional_embedding", {config.context_length, text_width});
  text.layers = read_layers(reader, prefix + "transformer.resblocks.", config.text, read_open_clip_layer);
  read_pair(reader, prefix + "ln_final", {text_width}, text.ln_final_weight, text.ln_final_bias);
  text.projection = reader.read(prefix + "text_projection", {text_width, config.projection}).t().contiguous();

  VisionTower& vision = towers.vision;
  vision.class_embedding = reader.read("visual.class_embedding", {width});
  vision.patch_embedding = reader.read("visual.conv1.weight", {width, 3, config.patch, config.patch});
  vision.position_embedding = reader.read("visual.positional_embedding", {positions(config), width});
  read_pair(reader, "visual.ln_pre", {width}, vision.ln_pre_weight, vision.ln_pre_bias);
  vision.layers = read_layers(reader, "visual.transformer.resblocks.", config.vision, read_open_clip_layer);
  read_pair(reader, "visual.ln_post", {width}, vision.ln_post_weight, vision.ln_post_bias);
  vision.projection = reader.read("visual.proj", {width, config.projection}).t().contiguous();
  for (const char* name :
       {"logit_scale", "attn_mask", "text.attn_mask", "input_resolution", "context_length", "vocab_size"}) {
    reader.ignore(name);
  }
  return towers;
}

// What OpenAI's loader does with a bare state dict: sizes from shapes, heads of width 64, quick_gelu.
ClipConfig deduce_open_clip_config(const WeightReader& reader, const std::string& where) {
  const std::string prefix = open_clip_text_prefix(reader);
  const auto shape = [&](const std::string& name, std::size_t rank) {
    if (!reader.contains(name))
      throw UsageError(where + ": " + name, "no such tensor, and there is no open_clip_config.json");
    Shape sizes = reader.shape_of(name);
    if (sizes.size() != rank) {
      throw UsageError(where + ": " + name,
                       "shape " + shape_to_string(sizes) + ", expected " + std::to_string(rank) + " dimensions");
    }
    for (const std::int64_t size : sizes) {
      if (size < 1 || size > (1 << 20))
        throw UsageError(where + ": " + name, "shape " + shape_to_string(sizes) + " is not a model's");
    }
    return sizes;
  };
  const auto depth = [&](const std::string& stem) {
    int layers = 0;
    while (reader.contains(stem + std::to_string(layers) + ".ln_1.weight")) ++layers;
    if (layers == 0) throw UsageError(where + ": " + stem + "0.ln_1.weight", "no such tensor");
    return layers;
  };
  const auto tower = [&](const std::string& stem, std::int64_t width) {
    const std::int64_t mlp = shape(stem + "0.mlp.c_fc.weight", 2)[0];
    return TowerConfig{static_cast<int>(width),
                       depth(stem),
                       static_cast<int>(std::max<std::int64_t>(width / 64, 1)),
                       static_cast<int>(mlp),
                       Activation::quick_gelu,
                       1e-5};
  };
  const Shape conv = shape("visual.conv1.weight", 4);
  const Shape tokens = shape(prefix + "token_embedding.weight", 2);
  const std::int64_t grid_area = shape("visual.positional_embedding", 2)[0] - 1;
  const auto grid = std::llround(std::sqrt(static_cast<double>(grid_area)));
  if (grid * grid != grid_area) {
    throw UsageError(where + ": visual.positional_embedding",
                     "holds " + std::to_string(grid_area) + " patches, not a square");
  }
  ClipConfig config;
  config.vision = tower("visual.transformer.resblocks.", conv[0]);
  config.text = tower(prefix + "transformer.resblocks.", tokens[1]);
  config.patch = static_cast<int>(conv[3]);
  config.image_size = static_cast<int>(grid * conv[3]);
  config.context_length = static_cast<int>(shape(prefix + "positional_embedding", 2)[0]);
  config.vocabulary = static_cast<int>(tokens[0]);
  config.projection = static_cast<int>(shape("visual.proj", 2)[1]);
  for (const TowerConfig& each : {config.vision, config.text}) {
    if (each.width % each.heads != 0)
      throw UsageError(where, "width " + std::to_string(each.width) + " is not a multiple of 64");
  }
  return config;
}

fs::path weights_path(const fs::path& folder) {
  if (!fs::is_directory(folder))
    throw UsageError("clip: " + folder.string(), "no such folder: expected a Hugging Face CLIP folder");
  for (const char* name : {"model.safetensors", "open_clip_model.safetensors"}) {
    if (fs::exists(folder / name)) return folder / name;
  }
  throw UsageError("clip: " + folder.string(), "has no model.safetensors (nor open_clip_model.safetensors)");
}

}  // namespace

std::shared_ptr<const ClipModel> ClipModel::load(const fs::path& folder, torch::Device device, ClipTowers wanted,
                                                 Products by, Products text_by) {
  const torch::NoGradGuard no_grad;
  const fs::path path = weights_path(folder);
  WeightReader reader(SafetensorsFile::open(path), device, by, text_by);
  const bool open_clip = reader.contains("visual.conv1.weight");
  const bool has_config = fs::exists(folder / "open_clip_config.json") || fs::exists(folder / "config.json");
  const auto model = std::shared_ptr<ClipModel>(new ClipModel());
  model->device_ = device;
  model->config_ =
      open_clip && !has_config ? deduce_open_clip_config(reader, "clip: " + path.string()) : load_clip_config(folder);
  model->tokenizer_ = std::make_shared<const Tokenizer>(Tokenizer::load(folder));
  if (model->tokenizer_->vocabulary_size() > model->config_.vocabulary) {
    throw UsageError("clip: " + folder.string(),
                     "the tokenizer has " + std::to_string(model->tokenizer_->vocabulary_size()) +
                         " tokens, the config's vocabulary " + std::to_string(model->config_.vocabulary));
  }
  Towers towers = open_clip ? read_open_clip(reader, model->config_) : read_hugging_face(reader, model->config_);
  reader.expect_all_read();
  model->text_ = std::move(towers.text);
  if (wanted == ClipTowers::both) model->vision_ = std::move(towers.vision);
  return model;
}

std::shared_ptr<const ClipModel> ClipModel::with_activation(ClipActivation activation) const {
  const auto model = std::shared_ptr<ClipModel>(new ClipModel(*this));
  if (activation == ClipActivation::weights) return model;
  const Activation wanted = activation == ClipActivation::gelu ? Activation::gelu : Activation::quick_gelu;
  for (TowerConfig* tower :
       {&model->config_.vision, &model->config_.text, &model->vision_.config, &model->text_.config})
    tower->activation = wanted;
  return model;
}

std::shared_ptr<const ClipModel> load_clip(const ModelSettings& settings, const fs::path& folder, torch::Device device,
                                           ClipTowers towers) {
  const auto clip = ClipModel::load(folder, device, towers);
  return clip->with_activation(clip_activation_of(settings, clip->config().image_size));
}

torch::Tensor activate(const torch::Tensor& x, Activation activation) {
  return activation == Activation::gelu ? torch::gelu(x) : x * torch::sigmoid(1.702 * x);
}

torch::Tensor layer_norm(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, double eps) {
  return torch::layer_norm(x, {x.size(-1)}, weight, bias, eps);
}

}  // namespace filo
