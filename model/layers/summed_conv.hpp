// The sum of several plain convolutions of one input: profile filo-release compares the six kernels' sum, not each
// kernel.
#pragma once

#include <torch/torch.h>

#include <vector>

namespace filo {

// input:   [B, H, W, C_in] (patch tokens), float32 or float64
// weights: each [C_out, C_in, kh_j, kw_j], kh_j and kw_j odd and at most 31; at least one
// biases:  [C_out] each, one per weight, or none at all
// Returns [B, H, W, C_out] = sum over j of conv2d(input, weights[j], biases[j]), stride 1, zero padding (kh_j / 2, kw_j
// / 2).
//
// On the CPU in the frequency domain (docs/explanations/performance.md); on CUDA one cuDNN convolution with the merged
// kernel. Differentiable (once) in weights and biases, and in input where it requires grad. The same bits on each call
// with the same number of threads. Throws Error that names the tensor, its shape and the one expected.
torch::Tensor summed_conv2d(const torch::Tensor& input, const std::vector<torch::Tensor>& weights,
                            const std::vector<torch::Tensor>& biases);

}  // namespace filo
