#include "model/layers/mdci.hpp"

#include <cmath>
#include <optional>

#include "model/layers/deform_conv.hpp"
#include "model/layers/summed_conv.hpp"

namespace filo {

torch::Tensor apply_kernel(const MdciKernel& kernel, const torch::Tensor& patches, Precision precision) {
  const auto side = static_cast<std::int64_t>(std::lround(std::sqrt(static_cast<double>(patches.size(1)))));
  const torch::Tensor grid = patches.contiguous().view({patches.size(0), side, side, patches.size(2)});
  if (!kernel.offset_weight.defined()) return summed_conv2d(grid, {kernel.weight}, {}).flatten(1, 2);
  const auto channels_first = [](const torch::Tensor& x) { return x.permute({0, 3, 1, 2}).contiguous(); };
  const torch::Tensor offset = channels_first(summed_conv2d(grid, {kernel.offset_weight}, {kernel.offset_bias}));
  std::optional<torch::Tensor> mask;
  if (kernel.mask_weight.defined()) {
    mask = torch::sigmoid(channels_first(summed_conv2d(grid, {kernel.mask_weight}, {kernel.mask_bias})));
  }
  return deform_conv2d(grid, kernel.weight, offset, mask, precision).flatten(1, 2);
}

}  // namespace filo
