// What an experiment is made of: the typed form of DESIGN section 7. Read from YAML by `filo`
// (settings/experiment/experiment.hpp), handed to the workers as resolved JSON inside spec.json. Both programs use
// these structs; neither parses YAML twice.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/json.hpp"

namespace filo {

enum class Profile { paper, filo_release };
enum class PromptMethod { coop, cocoop, none };
enum class PositionSource { boxes, all, none };
enum class BoxSource { none, file, grounding_dino };
enum class Precision { fp32, bf16 };

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

struct ModelSettings {
  Profile profile = Profile::paper;
  std::string clip;      // Hugging Face folder
  int image_size = 518;  // pixels, a multiple of the patch
  std::vector<int> layers = {6, 12, 18, 24};
  int vv_from = 7;
  PromptSettings prompts;
  MdciSettings mdci;
  BoxSettings boxes;
};

struct TrainSettings {
  int main_epochs = 15;
  double learning_rate_prompts = 1e-3;
  double learning_rate_mdci = 1e-4;  // MDCI kernels and the linear layers
  int adapter_epochs = 5;
  double learning_rate_adapter = 1e-5;
  int batch_size = 8;  // images per step over all ranks
  Precision precision = Precision::fp32;
  std::uint64_t seed = 0;
  int snapshot_every_steps = 50;
};

struct EvaluateSettings {
  int shots = 0;
  bool vision_language = true;  // false: patch matching alone (Table V), which needs shots
  double gaussian_sigma = 4;
  int heat_maps = 8;               // anomalous test images per class that get a PNG
  bool compare_untrained = false;  // also evaluate the freshly initialised model, at twice the time
};

// After how many attempts of a kind a stage is given up (until `filo retry`, which counts anew).
struct AttemptLimits {
  int failures = 3;
  int timeouts = 4;       // each one doubles the next attempt's time
  int out_of_memory = 4;  // each one gives the next attempt 1.5 times the memory
  int requeues = 50;      // stopped early, lost, preempted: a loop that never ends is a failure too
  friend bool operator==(const AttemptLimits&, const AttemptLimits&) = default;
};

struct ResourceSettings {  // not part of any stage's key
  int ranks = 2;
  int threads = 1;  // per rank
  int gpus = 0;     // per rank
  std::string memory = "4G";
  std::string time = "01:00:00";
  AttemptLimits attempts{};
};

// JSON in the shape of the YAML's `model:`, `train:`, `evaluate:`, `resources:` (every key present, resolved).
Json to_json(const ModelSettings& settings);
Json to_json(const TrainSettings& settings);
Json to_json(const EvaluateSettings& settings);
Json to_json(const ResourceSettings& settings);
Json to_json(const AttemptLimits& limits);

// The inverse. Checked against the same schema as YAML: throws UsageError naming `where` and the key.
ModelSettings model_settings_from_json(const Json& json, const std::string& where);
TrainSettings train_settings_from_json(const Json& json, const std::string& where);
EvaluateSettings evaluate_settings_from_json(const Json& json, const std::string& where);
ResourceSettings resource_settings_from_json(const Json& json, const std::string& where);

// A YAML file that holds the `model:` part of an experiment: either its keys at top level or under `model:` (the
// probe's --spec). Throws UsageError "file:line: key: found, expected, nearest key".
ModelSettings load_model_settings(const std::string& yaml_path);

}  // namespace filo
