// A linear layer in the precision that the settings ask for.
#pragma once

#include <torch/torch.h>

#include "settings/train.hpp"

namespace filo {

// x [..., in] float32, weight [out, in], bias [out] -> [..., out] float32. bf16: the product runs in bfloat16, the bias
// is added in float32. Differentiable.
inline torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                            Precision precision) {
  if (precision == Precision::fp32) return torch::linear(x, weight, bias);
  return torch::linear(x.to(torch::kBFloat16), weight.to(torch::kBFloat16)).to(torch::kFloat32) + bias;
}

}  // namespace filo
