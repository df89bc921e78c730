// Samples of the cache -> the batch that the model takes.
#pragma once

#include <vector>

#include "data/shards/shard_reader.hpp"
#include "model/systems/system.hpp"
#include "trainer/stage_inputs.hpp"

namespace filo {

struct FeatureBatch {
  ImageBatch images;
  torch::Tensor masks;   // [B, S, S] float32, 0 or 1; undefined where no patches were read
  torch::Tensor labels;  // [B] int64, 1 = anomalous
};

// Copies to compute_device(); features become float32, whatever the layout's type. The block has all parts and at least
// one sample; `boxes`: of each folder that its reader opened.
FeatureBatch make_batch(const FeatureBlock& block, const FeatureLayout& layout, const std::vector<ImageBoxes>& boxes);

// The lists that ImageBatch::boxes takes, one for each sample; no lists when there is no source of boxes.
std::vector<std::vector<Box>> boxes_of_samples(const std::vector<ImageBoxes>& boxes,
                                               const std::vector<const SampleInfo*>& samples);

}  // namespace filo
