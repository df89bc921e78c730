// FiLo as its authors published it (profile `filo-release`), its accidents included: learnable prompts without a
// filter, meta nets that see the adapted feature, six plain convolutions summed before one comparison, and the features
// that its code's aliases leave. No few-shot branch. docs/explanations/model.md has each difference from FiLo++.
//
// Parameters have the names of FiLo's state dict (its .pth files load: import.hpp):
// {normal,abnormal}_prompt_learner.{ctx, meta_net.linear{1,2}.{weight,bias}}, decoder_linear.fc.STAGE.{weight,bias},
// decoder_cov.fc_HW.STAGE.{weight,bias}, adapter.fc.{0,2}.weight.
//
// Phases as FiLo++'s. The meta nets see what the adapter makes, so nothing of the adapter's phase is computed ahead.
#pragma once

#include "model/systems/system.hpp"

namespace filo {

VisionOptions filo_release_features(const std::vector<int>& layers, int vv_from);

std::unique_ptr<System> make_filo_release(const ModelSettings& settings, const Descriptions& descriptions,
                                          std::shared_ptr<const ClipModel> clip, std::uint64_t seed);

}  // namespace filo
