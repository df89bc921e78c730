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

// Reads with LibTorch's restricted unpickler: tensors, containers and plain values only; any other global (os.system,
// ...) is refused before it is looked up. Accepts {"filo": state_dict} as FiLo writes it, or a bare state dict. Throws
// UsageError naming the file: not a zip of torch.save, a global that is not allowed, an entry that is not a tensor,
// NaN, or no learnable parameter of FiLo's among the names.
ImportedCheckpoint import_filo_checkpoint(const std::filesystem::path& path);

}  // namespace filo
