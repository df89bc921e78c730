// Large matrix products: the one place that says how they are done on this machine.
//
// On CPUs LibTorch's own float32 product is MKL's, which takes its AVX-512 kernels on Intel's CPUs alone; oneDNN, which
// LibTorch carries too, takes them on all and is twice as fast there. Which of the two a process takes depends on the
// CPU alone, so that all ranks of a job on like machines, and each restart, get the same bits. Tensors on a GPU and in
// float64 go to LibTorch. In Precision::bf16 operands are rounded to bfloat16, sums are kept in float32 and rounded to
// bfloat16 once.
#pragma once

#include <torch/torch.h>

#include <memory>

#include "settings/train.hpp"

namespace filo {

enum class Products { libtorch, onednn };

// What this process takes: FILO_PRODUCTS=libtorch|onednn where that is set, else onednn on CPUs with AVX-512 of any
// maker but Intel. Throws UsageError naming another value of FILO_PRODUCTS, or where LibTorch comes without oneDNN.
Products products();

// Of what a gradient goes through: trained layers and the text tower. FILO_PRODUCTS where it is set, else libtorch:
// oneDNN rounds a row otherwise where there are other rows beside it, so that trainings on other numbers of ranks drift
// apart by more than they may (docs/decisions/078).
Products products_of_training();

// "libtorch" or "onednn", as in FILO_PRODUCTS, events and benchmarks.
const char* products_name(Products products);

// x [..., in] float32, weight [out, in], bias [out] or undefined -> [..., out] float32. Differentiable in all.
torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                     Precision precision, Products by = products_of_training());

// A linear layer that is never trained. Its weight is brought into the order that products of this machine read it in
// when the first one is made, in one copy for each precision and direction (forward, backward) that is wanted. Copies
// share it. Thread-safe.
class FrozenLinear {
 public:
  FrozenLinear() = default;
  // weight [out, in], bias [out] or undefined, float32 of any device.
  FrozenLinear(torch::Tensor weight, torch::Tensor bias, Products by = products());

  // x [..., in] float32, or bfloat16 where that is the precision -> [..., out] float32. Differentiable in x.
  torch::Tensor operator()(const torch::Tensor& x, Precision precision = Precision::fp32) const;
  // x [..., in] float32 or bfloat16 -> [..., out] bfloat16: the result of Precision::bf16 as it is before it becomes
  // float32 again. Without gradient.
  torch::Tensor in_bfloat16(const torch::Tensor& x) const;

 private:
  friend class FrozenProduct;
  class Weights;
  std::shared_ptr<Weights> weights_;
};

}  // namespace filo
