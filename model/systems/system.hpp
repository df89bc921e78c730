// An anomaly detection system, what a `profile` of the settings names: from cached image features to anomaly maps and
// scores, and to the losses that it is trained by. One folder a system lies beside this file; nobody outside them knows
// which system it has. docs/explanations/model.md holds every equation and every choice.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "data/boxes.hpp"
#include "model/clip/clip.hpp"
#include "model/layers/few_shot.hpp"
#include "model/systems/parameters.hpp"
#include "model/tensors.hpp"
#include "model/text/prompts.hpp"
#include "settings/descriptions.hpp"
#include "settings/model.hpp"
#include "settings/train.hpp"

namespace filo {

// Features of B images; classes may differ from image to image.
struct ImageBatch {
  torch::Tensor global;                 // [B, C] float32: G0, before any adapter, not normalised
  std::map<int, torch::Tensor> qkv;     // layer -> [B, P, C_v] float32; needed only for maps
  std::map<int, torch::Tensor> vv;      // layer -> [B, P, C_v] float32; layers >= vv_from; needed only for maps
  std::vector<std::string> classes;     // B names
  std::vector<std::vector<Box>> boxes;  // B lists; empty: there is no source of boxes (no suppression, position center)
  torch::Tensor frozen;                 // [B, K]: frozen_vectors() of the phase under way; undefined: computed anew
};

// Of a batch: [B, K] without gradient. Not thread-safe.
using FrozenVectors = std::function<torch::Tensor(const ImageBatch& batch)>;

// A part of a training: some parameters learn, by one loss; all others rest.
struct TrainingPhase {
  std::string name;                     // "main": in events and snapshots
  int epochs = 0;                       // 0: the phase is left out
  std::vector<ParameterGroup> groups;   // the parameters that learn
  std::string loss;                     // "local"
  std::vector<std::string> loss_terms;  // names of the summands that are reported beside the loss; may be empty
  bool patches = true;                  // needs qkv, vv and masks; without, an epoch runs on vectors held in memory
  std::int64_t frozen_width = 0;        // K of ImageBatch::frozen; 0: nothing is held beside `global`
};

struct TrainingOptions {
  Precision precision = Precision::fp32;             // of the large matrix products
  std::function<void(const char* part)> part_ended;  // called after each part of the pass, for measuring; may be empty
};

struct TestingOptions {
  const FewShotMemory* memory = nullptr;  // must hold every class of the batch; not every system takes one
  bool vision_language = true;            // false: the memory's map alone; the score is its largest value
  double gaussian_sigma = 4;              // pixels; 0: no filter
};

// One prompt that was asked for, and how near it is to the image.
struct PromptMatch {
  Prompt prompt;
  double similarity = 0;  // cosine of the global feature that the system compares and the prompt's feature
  bool kept = true;       // passed the filter
};

// What a pass computes; a tensor that the system or the pass does not have is undefined.
struct ForwardOutput {
  torch::Tensor text_normal, text_abnormal;       // [B, C] the pair that image features are compared with
  torch::Tensor logits;                           // [B, 2] normal, abnormal
  torch::Tensor maps_normal, maps_abnormal;       // [B, stages, S, S] in [0, 1], the stages in the order of stages()
  std::vector<std::vector<PromptMatch>> prompts;  // testing: per image, normal ones first
  torch::Tensor map;                              // testing: [B, S, S] the anomaly map
  torch::Tensor score;                            // testing: [B]
};

// Means over the images of a batch.
struct Losses {
  torch::Tensor total;               // scalar, differentiable once: the phase's loss
  std::vector<torch::Tensor> terms;  // scalars without gradient, as TrainingPhase::loss_terms names them
};

// Learnable parameters over a frozen CLIP. Const members may run in several threads at once as long as nobody writes
// the parameters meanwhile (the optimiser writes them in place, under NoGradGuard).
//
// Passes check what they are given: UsageError names the tensor and its shape, the image with a wrong box, the class
// without descriptions.
class System {
 public:
  virtual ~System();
  System(const System&) = delete;
  System& operator=(const System&) = delete;

  const ModelSettings& settings() const { return settings_; }

  // Leaf tensors with requires_grad, float32, on CLIP's device, sorted by name; shared with the system (write them in
  // place). Their names are a checkpoint's.
  const TensorMap& parameters() const { return parameters_; }
  // Copies values in. Throws UsageError naming `where` and every tensor that is missing, extra, misshaped or not
  // finite; then nothing has changed.
  void load_parameters(const TensorMap& parameters, const std::string& where);

  virtual std::vector<std::string> stages() const = 0;  // of the maps: "qkv.6", ..., "vv.12", ...

  // In the order in which they are trained; every parameter learns in exactly one.
  virtual std::vector<TrainingPhase> training_phases(const TrainSettings& settings) const = 0;

  // What a phase's training pass computes of each image and none of its parameters changes (K = frozen_width), so that
  // it is computed once an image and not once an epoch. What images of a class share (texts that do not see the image)
  // is computed for the first of them and held: until the last call the system must live, and the other parameters stay
  // as they are. An image in a batch of its own has the same bits whichever images came before.
  virtual FrozenVectors frozen_vectors(const TrainingPhase& phase) const;

  // The pass that a phase trains by. Differentiable in the phase's parameters, and in no other's.
  virtual ForwardOutput train_forward(const TrainingPhase& phase, const ImageBatch& batch,
                                      const TrainingOptions& options = {}) const = 0;
  // The phase's loss on a pass of any kind that has the outputs it looks at. masks [B, S, S] of 0 and 1 (looked at
  // where phase.patches), labels [B] int64 (1: anomalous).
  virtual Losses losses(const TrainingPhase& phase, const ForwardOutput& output, const torch::Tensor& masks,
                        const torch::Tensor& labels) const = 0;

  // The pass whose map and score are evaluated, every parameter in use. Differentiable where autograd is on.
  virtual ForwardOutput test_forward(const ImageBatch& batch, const TestingOptions& options = {}) const = 0;

  // How many prompts with learnable vectors the first phase encodes for an image of the class without boxes.
  virtual std::size_t learnable_prompts(const std::string& class_name) const = 0;

 protected:
  System(ModelSettings settings, TensorMap parameters);
  const torch::Tensor& parameter(const std::string& name) const { return parameters_.at(name); }

 private:
  ModelSettings settings_;
  TensorMap parameters_;
};

// The system that settings.profile names, its parameters freshly initialised: a pure function of `seed` and their names
// (docs/explanations/model.md, "Initialisation"). Throws UsageError: layers beyond the tower, a prompt longer than the
// context, settings that the system does not have.
std::unique_ptr<System> make_system(const ModelSettings& settings, const Descriptions& descriptions,
                                    std::shared_ptr<const ClipModel> clip, std::uint64_t seed);

// The image features that the system of this profile reads: what a feature cache holds, and what encode_images() is
// asked for.
VisionOptions wanted_features(Profile profile, const std::vector<int>& layers, int vv_from);
VisionOptions wanted_features(const ModelSettings& settings);

// A defect by name, and how near its nearest prompt is to the image (which anomaly it is).
struct RankedDescription {
  std::string description;  // "cracked rim", or a generic state: "damaged bottle"
  std::string position;     // of the nearest prompt; "" when prompts carry none
  double similarity = 0;
};

// Best first, one entry for each abnormal description or state among the prompts of one image (filtered ones too).
std::vector<RankedDescription> rank_descriptions(const std::vector<PromptMatch>& prompts);

}  // namespace filo
