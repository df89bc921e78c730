#include "model/layers/few_shot.hpp"

#include <algorithm>
#include <limits>

#include "base/error.hpp"
#include "model/layers/equations.hpp"
#include "model/products.hpp"
#include "model/tensors.hpp"

namespace filo {
namespace {

constexpr std::int64_t memory_rows_at_once = 4096;  // bounds the similarity matrix: patches x this x 4 bytes

std::string where_of(const std::string& class_name, int layer) {
  return "few-shot memory: class '" + class_name + "': layer " + std::to_string(layer);
}

}  // namespace

void FewShotMemory::add(const std::string& class_name, const std::map<int, torch::Tensor>& qkv) {
  const auto& bank_before = patches_[class_name];
  if (qkv.empty()) throw UsageError("few-shot memory: class '" + class_name + "'", "no layer, expected at least one");
  Bank grown = bank_before;
  std::int64_t images = -1;
  for (const auto& [layer, given] : qkv) {
    const std::string where = where_of(class_name, layer);
    const torch::Tensor patches = given.dim() == 2 ? given.unsqueeze(0) : given;
    expect_shape(patches, {images, -1, -1}, where);
    expect_finite(patches, where);
    images = patches.size(0);
    if (patches.numel() == 0) throw UsageError(where, "k = 0 normal images (or no patches), expected at least 1");
    const torch::Tensor rows = normalized(patches.to(torch::kFloat32).flatten(0, 1).detach());
    auto& held = grown.patches[layer];
    if (held.defined()) expect_shape(rows, {-1, held.size(1)}, where);
    if (!held.defined() && bank_before.images > 0) throw UsageError(where, "not in the images added before");
    held = held.defined() ? torch::cat({held, rows}) : rows;
  }
  if (grown.patches.size() != qkv.size()) {
    throw UsageError("few-shot memory: class '" + class_name + "'", std::to_string(qkv.size()) + " layers, expected " +
                                                                        std::to_string(grown.patches.size()) +
                                                                        " as in the images added before");
  }
  grown.images += static_cast<int>(images);
  patches_[class_name] = std::move(grown);
}

int FewShotMemory::images(const std::string& class_name) const {
  const auto found = patches_.find(class_name);
  return found == patches_.end() ? 0 : found->second.images;
}

torch::Tensor FewShotMemory::distances(const std::string& class_name, int layer, const torch::Tensor& patches) const {
  const auto found = patches_.find(class_name);
  if (found == patches_.end() || !found->second.patches.contains(layer)) {
    throw UsageError(where_of(class_name, layer), "no normal images in the memory, expected k >= 1");
  }
  const torch::Tensor& memory = found->second.patches.at(layer);
  expect_shape(patches, {-1, memory.size(1)}, where_of(class_name, layer));
  const torch::Tensor unit = normalized(patches);
  torch::Tensor nearest;
  for (std::int64_t row = 0; row < memory.size(0); row += memory_rows_at_once) {
    const torch::Tensor part = memory.slice(0, row, std::min(row + memory_rows_at_once, memory.size(0)));
    const torch::Tensor similarity = linear(unit, part, {}, Precision::fp32, products()).amax(1);
    nearest = nearest.defined() ? torch::maximum(nearest, similarity) : similarity;
  }
  return 1 - nearest;
}

}  // namespace filo
