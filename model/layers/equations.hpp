// The equations of the paper that have no parameters of their own, one function each; the numbers are the paper's. What
// is FiLo's own form is named filo_release_*. All differentiable but suppression masks.
#pragma once

#include <torch/torch.h>

#include <vector>

#include "data/boxes.hpp"

namespace filo {

// x / max(|x|, 1e-12) along the last dimension.
torch::Tensor normalized(const torch::Tensor& x);

// Algorithm 1: G = G0 + SiLU(W2 ReLU(W1 G0)). global [B, C], first [C/2, C], second [C, C/2] -> [B, C].
torch::Tensor adapter(const torch::Tensor& global, const torch::Tensor& first, const torch::Tensor& second);

// The product of equation 1: G [T_n, T_a]^T with G normalised. global, normal, abnormal [B, C] -> [B, 2].
torch::Tensor text_products(const torch::Tensor& global, const torch::Tensor& normal, const torch::Tensor& abnormal);

// Equation 1: S_global = softmax(logits)_a + max(M). logits [B, 2], map [B, S, S] -> [B].
torch::Tensor global_score(const torch::Tensor& logits, const torch::Tensor& map);

// 100 (cos(x, T_a) - cos(x, T_n)) of every vector: the softmax of equation 2 over [T_n, T_a] is
// [sigmoid(-this), sigmoid(this)]. features [B, P, C] -> [B, P]. T of length 1/sqrt 2 gives FiLo's product.
torch::Tensor comparison(const torch::Tensor& features, const torch::Tensor& normal, const torch::Tensor& abnormal);

// Up: bilinear, align_corners. grid [B, channels, side, side] -> [B, channels, size, size].
torch::Tensor upsample(const torch::Tensor& grid, int size);

// Equation 2: M_i = Up(Norm(sum_j softmax(...))). Each of `comparisons` is one D_j's [B, P]; -> [B, 2, size, size],
// normal first.
torch::Tensor stage_map(const std::vector<torch::Tensor>& comparisons, int size);
// FiLo's: softmax(Up(...)) of its one comparison.
torch::Tensor filo_release_stage_map(const torch::Tensor& comparison, int size);

// Equations 3 and 4: M^vl = (M^a + 1 - M^n) / 2 with M^n, M^a the means over the stages. [B, stages, S, S] -> [B, S,
// S].
torch::Tensor vision_language_map(const torch::Tensor& maps_normal, const torch::Tensor& maps_abnormal);

// Equation 6 before suppression: the mean over the stages, upsampled. Each of `distances` is [B, P] -> [B, size, size].
torch::Tensor few_shot_map(const std::vector<torch::Tensor>& distances, int size);

// Scores outside all boxes times lambda; an image without boxes is outside everywhere. map [B, S, S]; boxes: B lists.
// A pixel is inside where its centre is.
torch::Tensor suppress_outside_boxes(const torch::Tensor& map, const std::vector<std::vector<Box>>& boxes,
                                     double lambda);
// FiLo's: corners truncated to whole pixels that bound a Python slice, in which a negative one counts from the other
// end (a box a pixel or more over the left or top edge is lost, as a rule), and a score of exactly 1 counts as inside.
torch::Tensor filo_release_suppress(const torch::Tensor& map, const std::vector<std::vector<Box>>& boxes,
                                    double lambda);

// G_sigma of equation 7: kernel cut at 4 sigma, edges mirrored with the edge pixel repeated (as scipy's
// gaussian_filter). sigma 0: unchanged. map [B, S, S].
torch::Tensor gaussian_filter(const torch::Tensor& map, double sigma);
// FiLo's: 3 taps, edges mirrored without repeating the edge pixel (as torchvision's GaussianBlur(3, sigma)).
torch::Tensor filo_release_gaussian_filter(const torch::Tensor& map, double sigma);

}  // namespace filo
