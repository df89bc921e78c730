// The names, shapes and first values of the learnable parameters of both profiles.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model/clip/clip.hpp"
#include "model/layers/mdci.hpp"
#include "model/tensors.hpp"
#include "settings/model.hpp"

namespace filo {

enum class ParameterGroup { prompts, mdci, adapter };  // mdci: with the linear layers

// The layers whose V-V features are compared: those from vv_from on, none without kernels.
std::vector<int> vv_layers(const ModelSettings& settings);

// What each parameter is called. paper: names of our own; filo-release: those of FiLo's state dict.
class ParameterNames {
 public:
  explicit ParameterNames(const ModelSettings& settings);

  std::string vectors(bool abnormal) const;
  std::string meta_net(bool abnormal, int layer, const std::string& what) const;  // layer 1 | 2, what weight | bias
  std::string linear(std::size_t stage, const std::string& what) const;           // stage: index into layers
  std::string kernel(std::size_t vv_stage, std::size_t kernel,
                     const std::string& what) const;  // indices; weight, offset.bias
  std::string adapter(int layer) const;               // 1 | 2

 private:
  const ModelSettings settings_;
  const std::vector<int> vv_layers_;
};

struct LearnableParameters {
  TensorMap tensors;  // leaves, requires_grad
  std::map<std::string, ParameterGroup> groups;
};

// A pure function of settings, sizes and seed, whatever the machine: each tensor draws from a stream of its own name.
// Vectors: normal, deviation 0.02. Linear layers and kernels, their biases too: uniform in +-1/sqrt(fan in), PyTorch's
// default. Offsets and masks: zero.
LearnableParameters initial_parameters(const ModelSettings& settings, const ClipConfig& clip, std::uint64_t seed,
                                       torch::Device device);

}  // namespace filo
