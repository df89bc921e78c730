// FiLo++ (profile `paper`) and the published FiLo (profile `filo-release`): from cached image features and the frozen
// text tower to text features, anomaly maps and scores. docs/explanations/model.md holds every equation and every
// choice.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/boxes.hpp"
#include "model/clip/clip.hpp"
#include "model/layers/few_shot.hpp"
#include "model/systems/learnable.hpp"
#include "model/tensors.hpp"
#include "model/text/prompts.hpp"
#include "settings/descriptions.hpp"
#include "settings/model.hpp"
#include "settings/train.hpp"

namespace filo {

// Features of B images; classes may differ from image to image.
struct ImageBatch {
  torch::Tensor global;                 // [B, C] float32: G0, before the adapter, not normalised
  std::map<int, torch::Tensor> qkv;     // layer -> [B, P, C_v] float32; needed only for maps
  std::map<int, torch::Tensor> vv;      // layer -> [B, P, C_v] float32; layers >= vv_from; needed only for maps
  std::vector<std::string> classes;     // B names
  std::vector<std::vector<Box>> boxes;  // B lists; empty: there is no source of boxes (no suppression, position center)
};

struct ForwardOptions {
  bool training = false;      // phase one or two: no map, score or prompt list; filo-release: all nine positions
  bool with_adapter = false;  // phase two and evaluation
  bool with_maps = true;      // phase two needs no maps
  const FewShotMemory* memory = nullptr;  // paper only; must hold every class of the batch
  bool vision_language = true;            // false: the memory's map alone, equation 6; the score is its largest value
  std::optional<double> suppression;      // lambda; unset: model.boxes.suppression
  double gaussian_sigma = 4;              // pixels; 0: no filter. filo-release: its own 3 x 3 kernel with this sigma
  Precision precision = Precision::fp32;  // of the large matrix products
};

// One prompt that was asked for, and how near it is to the image.
struct PromptMatch {
  Prompt prompt;
  double similarity = 0;  // cosine of G0 (filo-release: the adapted one) and the prompt's feature
  bool kept = true;       // passed the filter
};

struct ForwardOutput {
  torch::Tensor text_normal, text_abnormal;       // [B, C] T_n, T_a: length 1 (filo-release: 1/sqrt 2)
  torch::Tensor logits;                           // [B, 2] normal, abnormal: G [T_n, T_a]^T / 0.07
  std::vector<std::vector<PromptMatch>> prompts;  // per image, normal ones first; empty when training
  // Stage maps in [0, 1], defined when options.with_maps: the qkv layers in order, then the vv layers.
  torch::Tensor maps_normal, maps_abnormal;  // [B, stages, S, S]
  // Defined when options.with_maps and not options.training:
  torch::Tensor map;    // [B, S, S] M, equation 7
  torch::Tensor score;  // [B] S_global, equation 1 (with the adapter only when options.with_adapter)
};

// A defect by name, and how near its nearest prompt is to the image (which anomaly it is).
struct RankedDescription {
  std::string description;  // "cracked rim", or a generic state: "damaged {}"
  std::string position;     // of the nearest prompt; "" when prompts carry none
  double similarity = 0;
};

// Best first, one entry for each abnormal description or state among the prompts of one image (filtered ones too).
std::vector<RankedDescription> rank_descriptions(const std::vector<PromptMatch>& prompts);

// Learnable parameters over a frozen CLIP. forward() may run in several threads at once as long as nobody writes the
// parameters meanwhile (the optimiser writes them in place, under NoGradGuard).
class FiloModel {
 public:
  // Parameters freshly initialised (docs/explanations/model.md, "Initialisation"), a pure function of `seed` and their
  // names. Throws UsageError: layers beyond the tower, a prompt longer than the context, settings that leave a prompt
  // set empty.
  FiloModel(const ModelSettings& settings, const Descriptions& descriptions, std::shared_ptr<const ClipModel> clip,
            std::uint64_t seed);
  ~FiloModel();
  FiloModel(FiloModel&&) noexcept;

  const ModelSettings& settings() const;
  const ClipModel& clip() const;
  int patches_per_side() const;             // image_size / patch
  std::vector<std::string> stages() const;  // of the maps: "qkv.6", ..., "vv.12", ...

  // Leaf tensors with requires_grad, float32, on CLIP's device, sorted by name; shared with the model (write them in
  // place). paper: prompts.{normal,abnormal}.vectors [n, D], prompts.*.meta_net.linear{1,2}.{weight,bias},
  // linear.LAYER.{weight,bias}, mdci.LAYER.HxW.{weight, offset.weight, offset.bias, mask.weight, mask.bias},
  // adapter.linear{1,2}.weight. filo-release: the names of FiLo's state dict.
  const TensorMap& parameters() const;
  std::vector<std::string> parameter_group(ParameterGroup group) const;

  // Copies values in. Throws UsageError naming `where` and every tensor that is missing, extra, misshaped or not
  // finite; then nothing has changed.
  void load_parameters(const TensorMap& parameters, const std::string& where);

  // Differentiable in the parameters that its output depends on. Shapes are checked: UsageError names the tensor.
  ForwardOutput forward(const ImageBatch& batch, const ForwardOptions& options) const;

  // The parts of forward(), for phase two and for timing by part.
  struct TextFeatures {
    torch::Tensor normal, abnormal;  // [B, C]
    std::vector<std::vector<PromptMatch>> prompts;
  };
  // Prompts, text tower, filter, means. In `paper` independent of the adapter, so phase two may cache it; filo-release:
  // not.
  TextFeatures encode_text(const ImageBatch& batch, const ForwardOptions& options) const;
  // global [B, C] -> [B, 2], equation 1's product over 0.07.
  torch::Tensor global_logits(const torch::Tensor& global, const TextFeatures& text, bool with_adapter) const;
  // Equation 2 for every stage: fills maps_normal and maps_abnormal.
  struct StageMaps {
    torch::Tensor normal, abnormal;  // [B, stages, S, S]
  };
  StageMaps stage_maps(const ImageBatch& batch, const TextFeatures& text, Precision precision) const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace filo
