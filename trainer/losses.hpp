// The losses of section III-D of the paper (equations 8 and 9), and FiLo's own forms of them. Differentiable.
#pragma once

#include <torch/torch.h>

#include "settings/model.hpp"

namespace filo {

// L_f of equation 9: mean over all elements of -(1 - p_t)^gamma log(p_t), gamma = 2; p_t = `abnormal` where mask = 1,
// else `normal`. All [..., S, S]; mask is 0 or 1. Profile::filo_release: targets clamped to [1e-5, 1 - 1e-5], 1e-5
// added to p_t.
torch::Tensor focal_loss(const torch::Tensor& normal, const torch::Tensor& abnormal, const torch::Tensor& mask,
                         Profile profile, double gamma = 2);

// L_d of equation 9: 1 - (2 |map * mask| + 1) / (|map| + |mask| + 1), mean over maps. map, mask [..., S, S].
// paper: one fraction a map. filo-release: one fraction a row (FiLo's mask has lost its batch dimension), mean over
// rows.
torch::Tensor dice_loss(const torch::Tensor& map, const torch::Tensor& mask, Profile profile);

struct LocalLoss {
  torch::Tensor focal;  // scalar, without gradient
  torch::Tensor dice;   // scalar, without gradient: Dice(M^a, mask) + Dice(M^n, 1 - mask)
  torch::Tensor local;  // scalar: focal + dice, differentiable once
};

// Equation 9 on the stage maps: summed over the stages, mean over the images. maps [B, stages, S, S], mask [B, S, S], 0
// or 1. Each stage's gradient is taken at once, so that memory holds the intermediate maps of one stage.
LocalLoss local_loss(const torch::Tensor& maps_normal, const torch::Tensor& maps_abnormal, const torch::Tensor& mask,
                     Profile profile);

// Equation 8: cross-entropy of logits [B, 2] (ForwardOutput::logits) and labels [B] int64 (1: anomalous), mean over
// images.
torch::Tensor global_loss(const torch::Tensor& logits, const torch::Tensor& labels);

}  // namespace filo
