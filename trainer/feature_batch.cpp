#include "trainer/feature_batch.hpp"

#include <torch/torch.h>

#include "trainer/device.hpp"

namespace filo {
namespace {

using HalfFeatures = std::map<int, std::vector<std::uint16_t>>;

// [B, P, C_v] float32 of one layer.
torch::Tensor stack_layer(const std::vector<FeatureSample>& samples, HalfFeatures FeatureSample::*features, int layer,
                          const FeatureLayout& layout) {
  const auto count = static_cast<std::int64_t>(samples.size());
  const torch::Tensor half = torch::empty({count, layout.patches, layout.width}, torch::kHalf);
  auto* to = static_cast<std::uint16_t*>(half.data_ptr());
  for (const FeatureSample& sample : samples) {
    const std::vector<std::uint16_t>& bits = (sample.*features).at(layer);
    to = std::copy(bits.begin(), bits.end(), to);
  }
  return half.to(compute_device()).to(torch::kFloat);
}

}  // namespace

std::vector<Box> boxes_of_image(const ImageBoxes& boxes, const std::string& image) {
  if (!boxes) return {};
  const auto found = boxes->find(image);
  return found == boxes->end() ? std::vector<Box>() : found->second;
}

std::vector<std::vector<Box>> boxes_of_samples(const std::vector<ImageBoxes>& boxes,
                                               const std::vector<const SampleInfo*>& samples) {
  std::vector<std::vector<Box>> lists;
  if (!boxes.at(0)) return lists;
  for (const SampleInfo* sample : samples) lists.push_back(boxes_of_image(boxes.at(sample->folder), sample->image));
  return lists;
}

FeatureBatch make_batch(const std::vector<FeatureSample>& samples, const FeatureLayout& layout,
                        const std::vector<ImageBoxes>& boxes) {
  const auto count = static_cast<std::int64_t>(samples.size());
  const std::int64_t size = layout.mask_size;
  FeatureBatch batch;
  const torch::Tensor global = torch::empty({count, layout.global_size});
  const torch::Tensor masks = torch::empty({count, size, size}, torch::kUInt8);
  const torch::Tensor labels = torch::empty({count}, torch::kInt64);
  for (std::int64_t i = 0; i < count; ++i) {
    const FeatureSample& sample = samples[static_cast<std::size_t>(i)];
    std::copy(sample.global.begin(), sample.global.end(), global[i].data_ptr<float>());
    std::copy(sample.mask.begin(), sample.mask.end(), masks[i].data_ptr<std::uint8_t>());
    labels[i] = sample.label;
    batch.images.classes.push_back(sample.class_name);
  }
  for (const int layer : layout.qkv_layers)
    batch.images.qkv[layer] = stack_layer(samples, &FeatureSample::qkv, layer, layout);
  for (const int layer : layout.vv_layers)
    batch.images.vv[layer] = stack_layer(samples, &FeatureSample::vv, layer, layout);
  std::vector<const SampleInfo*> infos;
  for (const FeatureSample& sample : samples) infos.push_back(&sample);
  batch.images.boxes = boxes_of_samples(boxes, infos);
  batch.images.global = global.to(compute_device());
  batch.masks = masks.to(compute_device()).to(torch::kFloat);
  batch.labels = labels.to(compute_device());
  return batch;
}

}  // namespace filo
