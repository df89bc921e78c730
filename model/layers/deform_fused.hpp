// The deformable convolution of deform_conv.hpp for CPUs with AVX-512: columns are sampled into a tile that stays in
// the nearest cache, and multiplied at once, in place of being written, read and multiplied. In the backward pass a
// tile of the columns' gradient is at once multiplied with the four corners (offsets, mask), or added to them (input).
//
// Products are oneDNN's small ones, by at::native::cpublas::brgemm. Sums are float32, whatever the precision; with
// Precision::bf16 input, columns, weights and the output's gradient are rounded to bfloat16. The same bits on each call
// with the same number of threads.
#pragma once

#include <torch/torch.h>

#include "model/kernels/deform_conv.hpp"
#include "settings/train.hpp"

namespace filo {

// Whether this CPU has the products: tried once, for each precision.
bool fused_deform_available(Precision precision);

// What a call is of. The pointers are those of the tensors that the caller holds.
struct FusedDeformCall {
  kernels::DeformConvShape shape;  // fewer than 2^31 rows
  kernels::DeformConvInput<float> in;
  torch::Tensor input;   // [B, H, W, C_in] float32 contiguous: in.input
  torch::Tensor weight;  // [C_out, C_in, kh, kw] float32
  Precision precision = Precision::fp32;
};

// [rows, C_out] float32
torch::Tensor fused_deform_forward(const FusedDeformCall& call);

struct FusedDeformGradients {
  torch::Tensor input, weight;  // as the call's; undefined where not wanted
};

// gradient: [rows, C_out] float32. Writes those of offsets and mask where `out` has their pointers; out.input is null.
FusedDeformGradients fused_deform_backward(const FusedDeformCall& call, const torch::Tensor& gradient,
                                           bool input_wanted, bool weight_wanted,
                                           const kernels::DeformConvGradients<float>& out);

}  // namespace filo
