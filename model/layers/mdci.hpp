// One kernel D_j of the multi-scale deformable cross-modal interaction (MDCI, equation 2).
#pragma once

#include <torch/torch.h>

#include "settings/train.hpp"

namespace filo {

// Parameters of one kernel; `offset_*` undefined: a plain convolution; `mask_*` undefined: not modulated.
struct MdciKernel {
  torch::Tensor weight;  // [C, C_v, kh, kw], no bias
  torch::Tensor offset_weight,
      offset_bias;                       // [2 kh kw, C_v, kh, kw], [2 kh kw]: offsets, a convolution of the same input
  torch::Tensor mask_weight, mask_bias;  // [kh kw, C_v, kh, kw], [kh kw]: DCN v2's modulation before its sigmoid
};

// patches [B, P, C_v] of a square grid, without gradient -> [B, P, C]. Differentiable in the kernel's parameters.
torch::Tensor apply_kernel(const MdciKernel& kernel, const torch::Tensor& patches, Precision precision);

}  // namespace filo
