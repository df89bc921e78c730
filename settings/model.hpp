// `model:` of an experiment. `filo` reads it from YAML (settings/experiment/experiment.hpp) and hands it to the workers
// as resolved JSON inside spec.json: both programs use these structs, and neither parses YAML twice. What each setting
// means: docs/reference/experiment-file.md.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "settings/feature_type.hpp"
#include "settings/train.hpp"

namespace filo {

struct SourceValue;

enum class Profile { paper, filo_release };
enum class PromptMethod { coop, cocoop, none };
enum class PositionSource { boxes, all, none };
enum class BoxSource { none, file, grounding_dino };
enum class ClipActivation { weights, gelu, quick_gelu };  // as the weights' config says; x Phi(x); x sigmoid(1.702 x)

struct PromptSettings {
  PromptMethod method = PromptMethod::cocoop;
  int vectors = 12;
  bool class_names = true;
  bool fixed_template = true;  // paper only
  bool learnable_template = true;
  bool generic_states = true;
  std::string descriptions = "configs/descriptions/builtin.yaml";  // or "none"
  PositionSource positions = PositionSource::boxes;
  bool filter = true;  // paper only
};

struct MdciSettings {
  std::vector<std::array<int, 2>> kernels = {{1, 1}, {3, 3}, {5, 5},
                                             {7, 7}, {1, 5}, {5, 1}};  // [height, width], odd; empty: no MDCI
  bool deformable = true;
  bool modulated = false;  // DCN v2
};

struct BoxSettings {
  BoxSource source = BoxSource::none;
  std::string file;          // where source is file: {data} in it stands for the data set's name
  double suppression = 0.7;  // lambda; 1 = off
};

// Images with a side above `size` are cut into tiles of size x size pixels, whose maps become one again.
struct TilingSettings {
  int size = 0;           // 0: images stay whole
  double overlap = 0.25;  // of neighbouring tiles, of a tile's side; at least that much
};

// How many tiles a side of `length` pixels takes.
int tiles_along(const TilingSettings& tiling, int length);

struct ModelSettings {
  Profile profile = Profile::paper;
  std::string clip;  // Hugging Face folder
  // Of both towers. Unset: the profile's own, see clip_activation_of(); only filo-release leaves it open.
  std::optional<ClipActivation> clip_activation = ClipActivation::weights;
  int image_size = 518;  // pixels, a multiple of the patch
  TilingSettings tiling;
  std::vector<int> layers = {6, 12, 18, 24};
  int vv_from = 7;
  FeatureType feature_type = FeatureType::f16;  // of what features stages store
  Precision precision = Precision::fp32;        // of the image tower's products
  PromptSettings prompts;
  MdciSettings mdci;
  BoxSettings boxes;
};

// What model.clip_activation comes to over weights that were trained at `clip_image_size` pixels. FiLo's published
// loader builds both towers with exact GELU, whatever the weights say, unless the image has the weights' own size.
ClipActivation clip_activation_of(const ModelSettings& settings, int clip_image_size);
Json to_json(ClipActivation activation);

// In the shape of the YAML, every key present; clip_activation null where it is unset.
Json to_json(const ModelSettings& settings);

// The inverse. Checked against the same schema as YAML: throws UsageError naming `where` and the key. Without
// clip_activation it is `weights`: versions that did not know it ran on that, and specs leave it out
// (workspace/spec.hpp), as they do with a precision of fp32 and with a tiling of size 0.
ModelSettings model_settings_from_json(const Json& json, const std::string& where);

// A YAML file that holds the `model:` part of an experiment: either its keys at top level or under `model:` (the
// probe's --spec). Throws UsageError "settings: FILE:LINE: KEY: found, expected, nearest key".
ModelSettings load_model_settings(const std::string& yaml_path);

// Defaults and allowed values depend on the profile.
Schema model_schema(Profile profile);
// The profile a `model:` section asks for; paper where it says nothing usable (model_schema then complains).
Profile profile_of(const SourceValue* model);
// From a value that resolve() returned without problems.
ModelSettings model_settings_of(const Json& resolved);

}  // namespace filo
