// The stages of a system over CLIP (the layers of the image tower whose patches it compares), and the checks of what
// comes into it.
#pragma once

#include <torch/torch.h>

#include <map>
#include <string>
#include <vector>

#include "model/clip/clip.hpp"
#include "model/systems/system.hpp"
#include "settings/model.hpp"

namespace filo {

// The layers whose V-V features are compared: those from vv_from on, none without kernels.
std::vector<int> vv_layers(const ModelSettings& settings);

// "qkv.6", ..., then "vv.12", ...: the order of a system's stage maps.
std::vector<std::string> stage_names(const ModelSettings& settings);

// What the settings' schema cannot know: throws UsageError naming the key for an image size that is no multiple of the
// patch, layers beyond the tower or twice, no vectors, kernels of even size.
void expect_model_settings(const ModelSettings& settings, const ClipConfig& clip);

// Throws UsageError naming what is wrong with global, classes or boxes.
void expect_batch(const ImageBatch& batch, const ClipConfig& clip);

// features.at(layer), [B, P, C_v] float32; `kind` is "qkv" or "vv". Throws UsageError naming KIND.LAYER when it is
// missing, or of another shape or type.
torch::Tensor stage_patches(const std::map<int, torch::Tensor>& features, const char* kind, int layer,
                            std::int64_t images, const ModelSettings& settings, const ClipConfig& clip);

}  // namespace filo
