// FiLo++, the paper's model (profile `paper`): fixed and learnable prompts with runtime filtering, deformable
// multi-scale kernels (MDCI), boxes, a few-shot branch. Equations and figures are the paper's;
// docs/explanations/model.md.
//
// Parameters: prompts.{normal,abnormal}.vectors [n, D], prompts.*.meta_net.linear{1,2}.{weight,bias} (method cocoop),
// linear.LAYER.{weight,bias}, mdci.LAYER.HxW.{weight, offset.weight, offset.bias, mask.weight, mask.bias} (the second
// kernel of a shape is HxW-2), adapter.linear{1,2}.weight.
//
// Phases: `main` trains prompts, kernels and linear layers by the local loss (equation 9); `adapter` the adapter by the
// global loss (equation 8). Texts do not depend on the adapter: its phase computes them once an image.
#pragma once

#include "model/systems/system.hpp"

namespace filo {

VisionOptions filo_plus_plus_features(const std::vector<int>& layers, int vv_from);

std::unique_ptr<System> make_filo_plus_plus(const ModelSettings& settings, const Descriptions& descriptions,
                                            std::shared_ptr<const ClipModel> clip, std::uint64_t seed);

}  // namespace filo
