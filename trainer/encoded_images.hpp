// Images that are encoded outside of a features stage: what `predict` looks at, and the normal reference images of
// few-shot evaluation (paper, section III-C4).
#pragma once

#include <functional>
#include <string>

#include "data/datasets/dataset.hpp"
#include "data/images/tiles.hpp"
#include "model/clip/clip.hpp"
#include "model/layers/few_shot.hpp"
#include "settings/model.hpp"

namespace filo {

// Calls `use` with each tile of the image (settings.tiling), in their order, and its features (of a batch of one).
void encode_tiles(const ClipModel& clip, const ModelSettings& settings, const Image& image,
                  const std::function<void(const Tile&, const VisionFeatures&)>& use);

// A memory of `shots` normal images of one class, drawn by `seed` from the data set's train split and encoded here
// (they are few, and not in the feature cache, which holds the test split). Throws Error when the class has fewer.
FewShotMemory few_shot_memory(const ClipModel& clip, const ModelSettings& settings, const Dataset& dataset,
                              const std::string& class_name, int shots, std::uint64_t seed);

}  // namespace filo
