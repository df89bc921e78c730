#include "trainer/feature_batch.hpp"

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <map>

#include "data/samples/samples.hpp"
#include "trainer/device.hpp"

namespace filo {
namespace {

torch::ScalarType scalar_type(FeatureType type) {
  switch (type) {
    case FeatureType::f16:
      return torch::kHalf;
    case FeatureType::bf16:
      return torch::kBFloat16;
    case FeatureType::f32:
      return torch::kFloat;
    case FeatureType::int8:
      return torch::kChar;
  }
  return torch::kFloat;
}

// Of the block's own memory, which lives as long as the tensor.
torch::Tensor view_of(const FeatureBlock& block, const void* data, at::IntArrayRef sizes, torch::ScalarType type) {
  return torch::from_blob(
      const_cast<void*>(data), sizes, [memory = block.memory()](void*) {}, type);
}

// Integers [B, P, C_v] times one scale for each patch, in one pass over memory.
torch::Tensor expanded(const torch::Tensor& integers, const torch::Tensor& scales) {
  if (!compute_device().is_cpu()) return integers.to(compute_device()) * scales.to(compute_device());
  const torch::Tensor values = torch::empty(integers.sizes(), torch::kFloat);
  const std::int64_t width = integers.size(-1);
  at::parallel_for(0, scales.numel(), 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t patch = begin; patch < end; ++patch) {
      const std::int8_t* const from = integers.const_data_ptr<std::int8_t>() + patch * width;
      float* const to = values.data_ptr<float>() + patch * width;
      const float scale = scales.const_data_ptr<float>()[patch];
      for (std::int64_t i = 0; i < width; ++i) to[i] = scale * static_cast<float>(from[i]);
    }
  });
  return values;
}

// [B, P, C_v] float32 of one layer.
torch::Tensor layer_of(const FeatureBlock& block, bool vv, int layer, const FeatureLayout& layout) {
  const auto count = static_cast<std::int64_t>(block.size());
  const torch::Tensor stored =
      view_of(block, block.map(vv, layer), {count, layout.patches, layout.width}, scalar_type(layout.type));
  if (layout.type == FeatureType::int8)
    return expanded(stored, view_of(block, block.scales(vv, layer), {count, layout.patches, 1}, torch::kFloat));
  return stored.to(compute_device(), /*non_blocking=*/false).to(torch::kFloat);
}

}  // namespace

std::vector<std::vector<Box>> boxes_of_samples(const std::vector<ImageBoxes>& boxes,
                                               const std::vector<const SampleInfo*>& samples) {
  std::vector<std::vector<Box>> lists;
  if (!boxes.at(0)) return lists;
  for (const SampleInfo* sample : samples) lists.push_back(boxes_of_sample(*boxes.at(sample->folder), *sample));
  return lists;
}

FeatureBatch make_batch(const FeatureBlock& block, const FeatureLayout& layout, const std::vector<ImageBoxes>& boxes) {
  const auto count = static_cast<std::int64_t>(block.size());
  const std::int64_t size = layout.mask_size;
  FeatureBatch batch;
  const torch::Tensor masks = torch::empty({count, size, size}, torch::kUInt8);
  std::vector<std::int64_t> labels;
  std::vector<const SampleInfo*> infos;
  for (std::size_t i = 0; i < block.size(); ++i) {
    const SampleInfo& sample = block.samples()[i];
    auto* const mask = masks[static_cast<std::int64_t>(i)].data_ptr<std::uint8_t>();
    block.mask(i, {mask, static_cast<std::size_t>(size * size)});
    labels.push_back(sample.label);
    batch.images.classes.push_back(sample.class_name);
    infos.push_back(&sample);
  }
  std::map<const std::byte*, torch::Tensor> maps;  // each once, whatever its names
  const auto map_of = [&](bool vv, int layer) {
    torch::Tensor& map = maps[block.map(vv, layer)];
    if (!map.defined()) map = layer_of(block, vv, layer, layout);
    return map;
  };
  for (const int layer : layout.qkv_layers) batch.images.qkv[layer] = map_of(false, layer);
  for (const int layer : layout.vv_layers) batch.images.vv[layer] = map_of(true, layer);
  batch.images.boxes = boxes_of_samples(boxes, infos);
  batch.images.global = view_of(block, block.global(), {count, layout.global_size}, torch::kFloat).to(compute_device());
  batch.masks = masks.to(compute_device()).to(torch::kFloat);
  batch.labels = torch::tensor(labels, torch::kInt64).to(compute_device());
  return batch;
}

}  // namespace filo
