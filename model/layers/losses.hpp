// The losses of section III-D of the paper (equations 8 and 9), and FiLo's own forms of them. Differentiable.
#pragma once

#include <torch/torch.h>

namespace filo {

// L_f of equation 9: mean over all elements of -(1 - p)^2 log(p); p = `abnormal` where mask = 1, else `normal`, at
// least 1e-30. All [..., S, S]; mask is 0 or 1.
torch::Tensor focal_loss(const torch::Tensor& normal, const torch::Tensor& abnormal, const torch::Tensor& mask);
// FiLo's: targets clamped to [1e-5, 1 - 1e-5] and mixed by them, 1e-5 added to p.
torch::Tensor filo_release_focal_loss(const torch::Tensor& normal, const torch::Tensor& abnormal,
                                      const torch::Tensor& mask);

// L_d of equation 9: 1 - (2 |map * mask| + 1) / (|map| + |mask| + 1), mean over maps. map, mask [..., S, S].
torch::Tensor dice_loss(const torch::Tensor& map, const torch::Tensor& mask);
// FiLo's: one fraction a row in place of one a map (its mask has lost the batch dimension), mean over rows.
torch::Tensor filo_release_dice_loss(const torch::Tensor& map, const torch::Tensor& mask);

// Which forms of the two a local loss is made of.
struct StageLosses {
  torch::Tensor (*focal)(const torch::Tensor& normal, const torch::Tensor& abnormal, const torch::Tensor& mask);
  torch::Tensor (*dice)(const torch::Tensor& map, const torch::Tensor& mask);
};

struct LocalLoss {
  torch::Tensor focal;  // scalar, without gradient
  torch::Tensor dice;   // scalar, without gradient: Dice(M^a, mask) + Dice(M^n, 1 - mask)
  torch::Tensor local;  // scalar: focal + dice, differentiable once
};

// Equation 9 on the stage maps: summed over the stages, mean over the images. maps [B, stages, S, S], mask [B, S, S], 0
// or 1. Each stage's gradient is taken at once, so that memory holds the intermediate maps of one stage. Throws
// UsageError for a mask of another shape.
LocalLoss local_loss(const torch::Tensor& maps_normal, const torch::Tensor& maps_abnormal, const torch::Tensor& mask,
                     const StageLosses& losses);

// Equation 8: cross-entropy of logits [B, 2] and labels [B] int64 (1: anomalous), mean over images.
torch::Tensor global_loss(const torch::Tensor& logits, const torch::Tensor& labels);

}  // namespace filo
