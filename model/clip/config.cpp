#include <cmath>

#include "base/error.hpp"
#include "base/json.hpp"
#include "model/clip/clip.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t largest_size = 1 << 20;

// An object of a config file, remembering where it is for messages.
class Section {
 public:
  Section(Json json, std::string where) : json_(std::move(json)), where_(std::move(where)) {
    if (json_.is_null()) json_ = Json::object();
    if (!json_.is_object()) throw UsageError(where_, "found " + json_.dump() + ", expected an object");
  }

  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }
  Section section(const char* key) const { return Section(has(key) ? json_[key] : Json(), where_ + ": " + key); }
  std::string where(const char* key) const { return where_ + ": " + key; }

  int size(const char* key, std::optional<int> fallback = std::nullopt) const {
    if (!has(key)) {
      if (fallback) return *fallback;
      throw UsageError(where(key), "missing, expected a whole number >= 1");
    }
    const Json& value =
        json_[key].is_array() && json_[key].size() == 2 && json_[key][0] == json_[key][1] ? json_[key][0] : json_[key];
    if (!value.is_number_integer() || value.get<std::int64_t>() < 1 || value.get<std::int64_t>() > largest_size) {
      throw UsageError(where(key),
                       "found " + value.dump() + ", expected a whole number from 1 to " + std::to_string(largest_size));
    }
    return value.get<int>();
  }

  double positive(const char* key, double fallback) const {
    if (!has(key)) return fallback;
    if (!json_[key].is_number() || !(json_[key].get<double>() > 0)) {
      throw UsageError(where(key), "found " + json_[key].dump() + ", expected a number > 0");
    }
    return json_[key].get<double>();
  }

  bool flag(const char* key) const {
    if (!has(key)) return false;
    if (!json_[key].is_boolean())
      throw UsageError(where(key), "found " + json_[key].dump() + ", expected true or false");
    return json_[key].get<bool>();
  }

  Activation activation(const char* key) const {
    const Json value = has(key) ? json_[key] : Json("quick_gelu");
    if (value == "quick_gelu") return Activation::quick_gelu;
    if (value == "gelu") return Activation::gelu;
    throw UsageError(where(key), "found " + value.dump() + ", expected \"quick_gelu\" or \"gelu\"");
  }

  // These variants of a tower are other models; reading their weights as plain CLIP would fail later and less clearly.
  void refuse(std::initializer_list<const char*> keys) const {
    for (const char* key : keys) {
      if (has(key) && json_[key] != false) throw UsageError(where(key), "this variant of the tower is not supported");
    }
  }

 private:
  Json json_;
  std::string where_;
};

void check(const TowerConfig& tower, const std::string& where) {
  if (tower.width % tower.heads != 0) {
    throw UsageError(where, "width " + std::to_string(tower.width) + " is not a multiple of the number of heads, " +
                                std::to_string(tower.heads));
  }
}

void check(const ClipConfig& config, const std::string& where) {
  check(config.vision, where + ": vision");
  check(config.text, where + ": text");
  if (config.image_size % config.patch != 0) {
    throw UsageError(where + ": image_size", std::to_string(config.image_size) + " is not a multiple of the patch, " +
                                                 std::to_string(config.patch));
  }
}

// Old files carry `text_config_dict` beside `text_config`; transformers lets the former win, defaults included.
Section hugging_face_tower(const Section& root, const char* key, const char* old_key) {
  return root.section(root.has(old_key) ? old_key : key);
}

TowerConfig hugging_face_tower_config(const Section& section, int width, int heads) {
  TowerConfig tower;
  tower.width = section.size("hidden_size", width);
  tower.layers = section.size("num_hidden_layers", 12);
  tower.heads = section.size("num_attention_heads", heads);
  tower.mlp = section.size("intermediate_size", 4 * width);
  tower.activation = section.activation("hidden_act");
  tower.layer_norm_eps = section.positive("layer_norm_eps", 1e-5);
  return tower;
}

ClipConfig hugging_face_config(const Section& root) {
  const Section text = hugging_face_tower(root, "text_config", "text_config_dict");
  const Section vision = hugging_face_tower(root, "vision_config", "vision_config_dict");
  ClipConfig config;
  config.text = hugging_face_tower_config(text, 512, 8);
  config.vision = hugging_face_tower_config(vision, 768, 12);
  config.context_length = text.size("max_position_embeddings", 77);
  config.vocabulary = text.size("vocab_size", 49408);
  config.patch = vision.size("patch_size", 32);
  config.image_size = vision.size("image_size", 224);
  config.projection = root.size("projection_dim", 512);
  if (const int channels = vision.size("num_channels", 3); channels != 3) {
    throw UsageError(vision.where("num_channels"), "found " + std::to_string(channels) + ", expected 3");
  }
  return config;
}

ClipConfig open_clip_config(const Section& root) {
  const Section model = root.section("model_cfg");
  const Section vision = model.section("vision_cfg");
  const Section text = model.section("text_cfg");
  vision.refuse({"timm_model_name", "attentional_pool", "global_average_pool", "input_patchnorm", "no_ln_pre",
                 "final_ln_after_pool", "ls_init_value", "norm_kwargs", "act_kwargs"});
  text.refuse(
      {"hf_model_name", "embed_cls", "no_causal_mask", "ls_init_value", "norm_kwargs", "act_kwargs", "proj_bias"});
  const Activation activation = model.flag("quick_gelu") ? Activation::quick_gelu : Activation::gelu;
  ClipConfig config;
  const int vision_width = vision.size("width", 768);
  config.vision = {vision_width,
                   vision.size("layers", 12),
                   vision_width / vision.size("head_width", 64),
                   static_cast<int>(std::lround(vision_width * vision.positive("mlp_ratio", 4.0))),
                   activation,
                   1e-5};
  const int text_width = text.size("width", 512);
  config.text = {text_width,
                 text.size("layers", 12),
                 text.size("heads", 8),
                 static_cast<int>(std::lround(text_width * text.positive("mlp_ratio", 4.0))),
                 activation,
                 1e-5};
  if (config.vision.heads < 1) throw UsageError(vision.where("head_width"), "is larger than the width");
  config.context_length = text.size("context_length", 77);
  config.vocabulary = text.size("vocab_size", 49408);
  config.patch = vision.size("patch_size", 16);
  config.image_size = vision.size("image_size", 224);
  config.projection = model.size("embed_dim");
  return config;
}

}  // namespace

ClipConfig load_clip_config(const fs::path& folder) {
  const fs::path hugging_face = folder / "config.json";
  const fs::path open_clip = folder / "open_clip_config.json";
  if (!fs::is_directory(folder))
    throw UsageError("clip: " + folder.string(), "no such folder: expected a Hugging Face CLIP folder");
  const bool is_open_clip = fs::exists(open_clip) && !fs::exists(folder / "model.safetensors");
  const fs::path path = is_open_clip || !fs::exists(hugging_face) ? open_clip : hugging_face;
  if (!fs::exists(path))
    throw UsageError("clip: " + folder.string(), "has neither config.json nor open_clip_config.json");
  const std::string where = "clip: " + path.string();
  const Section root(read_json(path), where);
  const ClipConfig config = path == open_clip ? open_clip_config(root) : hugging_face_config(root);
  check(config, where);
  return config;
}

}  // namespace filo
