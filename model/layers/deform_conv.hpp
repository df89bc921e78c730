// Deformable convolution (Dai et al. 2017; with a mask DCN v2, Zhu et al. 2019): the MDCI kernels D_j of the paper (eq.
// 9).
#pragma once

#include <torch/torch.h>

#include <optional>

#include "settings/train.hpp"

namespace filo {

// How it is computed on CPUs, in float32 and bf16: `columns` writes them and multiplies (any CPU), `fused` does both at
// once (deform_fused.hpp: AVX-512, and for bf16 a CPU with products of it; `columns` is taken where that lacks).
enum class DeformKernels { columns, fused };

// What this process takes: FILO_DEFORM=columns|fused where that is set, else fused on CPUs that can. Follows from the
// CPU, as products() (model/products.hpp). Throws UsageError naming another value of FILO_DEFORM, or where it says
// fused and the CPU cannot.
DeformKernels deform_kernels();

// "columns" or "fused", as in FILO_DEFORM and benchmarks.
const char* deform_kernels_name(DeformKernels kernels);

// input:  [B, H, W, C_in] contiguous (patch tokens), float32 or float64, CPU or CUDA
// weight: [C_out, C_in, kh, kw], kh and kw odd
// offset: [B, 2 * kh * kw, H, W], (dy, dx) per tap in pixels, taps row by row, as torchvision.ops.deform_conv2d
// mask:   [B, kh * kw, H, W], or none: all one
// Returns [B, H, W, C_out]: stride 1, padding (kh / 2, kw / 2), zero outside the image, no bias.
//
// All tensors have the input's type and device. Differentiable (once) in weight, offset and mask, and in input where it
// requires grad. Columns are sampled again for the backward pass, so nothing of size [B * H * W, kh * kw * C_in] is
// ever kept. Precision::bf16 (float32 only): columns and weights rounded to bfloat16, by `fused` the input too;
// products accumulated in float32, results float32. The same bits on each call with the same number of threads. Throws
// Error that names the tensor, its shape and the one expected.
torch::Tensor deform_conv2d(const torch::Tensor& input, const torch::Tensor& weight, const torch::Tensor& offset,
                            const std::optional<torch::Tensor>& mask, Precision precision,
                            DeformKernels by = deform_kernels());

}  // namespace filo
