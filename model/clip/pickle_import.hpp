// FiLo's published checkpoints: what torch.save wrote (a zip with a pickle), read without running anything from it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "model/tensors.hpp"

namespace filo {

// What a .pth file held.
struct ImportedCheckpoint {
  TensorMap
      parameters;  // learnable ones, under the names of FiLo's state dict ("module." removed), float32, on the CPU
  std::vector<std::string> frozen;   // names left out: CLIP's own weights (clip_model.*, text_encoder.*)
  std::vector<std::string> unknown;  // names left out that FiLo's model does not have
};

// The pickle is read as data (model/clip/unpickler.hpp): any name but a state dict's (os.system, ...) is refused,
// nothing is run. Accepts {"filo": state_dict} as FiLo writes it, or a bare state dict. Throws UsageError naming the
// file: not a file of torch.save, a name that is refused, a parameter that is not a floating point tensor or reaches
// beyond its storage, NaN, or no learnable parameter of FiLo's among the names.
ImportedCheckpoint import_filo_checkpoint(const std::filesystem::path& path);

}  // namespace filo
