// From the prompts of a class to one pair of text features for each image: which prompts an image asks for, their
// features, those that pass the filter, and the means of what is left. Shared by the systems whose prompts name a
// state, a description and a position.
#pragma once

#include <torch/torch.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "model/systems/parameters.hpp"
#include "model/systems/system.hpp"

namespace filo {

// The vectors in front of learnable prompts: CoOp (Zhou et al. 2022a), or CoCoOp (2022b), where a meta net of the
// image's feature shifts them.
struct PromptLearner {
  torch::Tensor vectors;                       // [n, D]
  torch::Tensor linear1_weight, linear1_bias;  // [C/16, C], [C/16]; the meta net; undefined: CoOp
  torch::Tensor linear2_weight, linear2_bias;  // [D, C/16], [D]
};

// PREFIX.VECTORS_NAME and, with method cocoop, PREFIX.meta_net.linear{1,2}.{weight,bias}. Nothing where the settings
// have no learnable prompts.
void add_prompt_learner(ParameterInitializer& add, const std::string& prefix, const std::string& vectors_name,
                        const PromptSettings& settings, const ClipConfig& clip);
PromptLearner prompt_learner(const TensorMap& parameters, const std::string& prefix, const std::string& vectors_name);

// The rows that learnable prompts begin with: CoOp [2 n, D], CoCoOp [2 B n, D] for unit_global [B, C]; normal ones
// first. Undefined where there are no vectors.
torch::Tensor learnable_vectors(const PromptLearner& normal, const PromptLearner& abnormal,
                                const torch::Tensor& unit_global);

// The prompts of one class.
struct ClassPrompts {
  PromptSet set;
  std::vector<int> normal;
};

// Prompts of the encoder's classes, as far as they were asked for -> [C] normalised, without gradient.
using PromptFeatures = std::map<const Prompt*, torch::Tensor>;

// What one image asks for: normal prompts, then abnormal ones; and where each one's feature is.
struct AskedPrompts {
  std::shared_ptr<ClassPrompts> prompts;
  std::vector<int> index;  // into prompts->set
  std::size_t normal_count = 0;
  std::vector<std::int64_t> row;  // into EncodedPrompts::features
};

struct EncodedPrompts {
  torch::Tensor features;            // [rows, C] normalised; a prompt that several images ask for is one row
  std::vector<AskedPrompts> images;  // B
};

// Thread-safe.
class PromptEncoder {
 public:
  PromptEncoder(const PromptSettings& settings, const Descriptions& descriptions,
                std::shared_ptr<const ClipModel> clip);

  // The normal prompts of each image's class, and its abnormal ones at `positions` (B lists). `vectors`: as
  // learnable_vectors() gives them. Differentiable in `vectors`, unless features are held: where CoOp's vectors stay
  // the same from call to call, `held` takes what its prompts come to, and each is encoded once, in float32.
  EncodedPrompts encode(const std::vector<std::string>& classes, const std::vector<std::vector<int>>& positions,
                        const torch::Tensor& vectors, Precision precision, PromptFeatures* held = nullptr) const;

  std::size_t learnable_prompts(const std::string& class_name, const std::vector<int>& positions) const;

 private:
  std::shared_ptr<ClassPrompts> prompts_of(const std::string& class_name) const;
  AskedPrompts ask(const std::string& class_name, const std::vector<int>& positions) const;
  void encode_missing(const AskedPrompts& image, PromptFamily family, const torch::Tensor& vectors,
                      PromptFeatures& held) const;
  torch::Tensor held_features(std::vector<AskedPrompts>& images, PromptFamily family, const torch::Tensor& vectors,
                              std::int64_t first_row, PromptFeatures& held) const;
  torch::Tensor learnable_features(std::vector<AskedPrompts>& images, const torch::Tensor& vectors,
                                   std::int64_t first_row, Precision precision) const;
  std::vector<std::int64_t> sequence(const Prompt& prompt, std::int64_t image, std::int64_t images) const;

  PromptSettings settings_;
  Descriptions descriptions_;
  std::shared_ptr<const ClipModel> clip_;
  mutable std::mutex mutex_;  // over classes_ and fixed_
  mutable std::map<std::string, std::shared_ptr<ClassPrompts>> classes_;
  mutable PromptFeatures fixed_;  // frozen
};

struct TextFeatures {
  torch::Tensor normal, abnormal;                 // [B, C] of length 1
  std::vector<std::vector<PromptMatch>> prompts;  // per image, normal ones first; empty unless asked for
};

struct MeanOptions {
  bool filter = false;   // runtime prompt filtering (model/layers/filter.hpp)
  bool matches = false;  // fills TextFeatures::prompts
};

// Of each image's two sets the mean of the features, normalised. unit_global [B, C]: what prompts are compared with.
// Differentiable in the features; what the filter keeps is a constant.
TextFeatures mean_text_features(const EncodedPrompts& encoded, const torch::Tensor& unit_global,
                                const MeanOptions& options);

}  // namespace filo
