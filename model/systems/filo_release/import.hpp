// FiLo's published checkpoints, as its train.py saved them.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "model/tensors.hpp"
#include "settings/model.hpp"

namespace filo {

// What a .pth file held.
struct ImportedCheckpoint {
  // Learnable ones, under the names of FiLo's state dict ("module." removed), float32, on the CPU.
  TensorMap parameters;
  std::vector<std::string> frozen;              // names left out: CLIP's own weights (clip_model.*, text_encoder.*)
  std::vector<std::string> unknown;             // names left out that FiLo's model does not have
  std::map<std::string, std::string> metadata;  // for params.safetensors: which profile the parameters are of
};

// Accepts {"filo": state_dict} as FiLo writes it, or a bare state dict; nothing in the file is run
// (model/torch_file.hpp). Throws UsageError naming the file and what is wrong: not a state dict, a parameter that is
// not a floating point tensor or is not finite, a name twice, or no learnable parameter of FiLo's among the names.
ImportedCheckpoint import_filo_checkpoint(const std::filesystem::path& path);

// Puts into `model` what the parameters' names and shapes tell: how many vectors, which kernels. Throws UsageError when
// they are of another number of layers than model.layers (and vv_from) has.
void apply_shapes(const TensorMap& parameters, ModelSettings& model, const std::string& where);

}  // namespace filo
