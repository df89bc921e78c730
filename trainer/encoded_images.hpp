// The normal reference images of few-shot evaluation (paper, section III-C4).
#pragma once

#include <string>

#include "data/datasets/dataset.hpp"
#include "model/clip/clip.hpp"
#include "model/layers/few_shot.hpp"
#include "settings/model.hpp"

namespace filo {

// A memory of `shots` normal images of one class, drawn by `seed` from the data set's train split and encoded here
// (they are few, and not in the feature cache, which holds the test split). Throws Error when the class has fewer.
FewShotMemory few_shot_memory(const ClipModel& clip, const ModelSettings& settings, const Dataset& dataset,
                              const std::string& class_name, int shots, std::uint64_t seed);

}  // namespace filo
