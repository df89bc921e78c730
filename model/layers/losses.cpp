#include "model/layers/losses.hpp"

#include "base/error.hpp"
#include "checkpoint/safetensors.hpp"

namespace filo {
namespace {

constexpr double gamma = 2;
constexpr double dice_smoothing = 1;
constexpr double log_floor = 1e-30;  // paper: only against log(0); a pixel that is surely wrong keeps its gradient
constexpr double release_label_smoothing = 1e-5;  // filo-release

void expect_mask(const torch::Tensor& maps, const torch::Tensor& mask) {
  if (mask.dim() == 3 && mask.size(0) == maps.size(0) && mask.sizes().slice(1) == maps.sizes().slice(2)) return;
  throw UsageError("loss: mask", "shape " + shape_to_string(mask.sizes()) + ", expected [" +
                                     std::to_string(maps.size(0)) + ", " + std::to_string(maps.size(2)) + ", " +
                                     std::to_string(maps.size(3)) + "]");
}

// Variables: the maps. Returns [focal, dice], summed over the stages. `differentiated`: a backward pass may follow.
class LossOfStages : public torch::autograd::Function<LossOfStages> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& normal,
                               const torch::Tensor& abnormal, const torch::Tensor& mask, StageLosses losses,
                               bool differentiated) {
    torch::Tensor normal_gradient, abnormal_gradient;
    if (differentiated) {
      normal_gradient = torch::empty(normal.sizes(), normal.options());
      abnormal_gradient = torch::empty(abnormal.sizes(), abnormal.options());
    }
    torch::Tensor sums = torch::zeros({2}, abnormal.options());
    const torch::Tensor target = mask.to(abnormal.dtype());
    for (std::int64_t stage = 0; stage < normal.size(1); ++stage) {
      const c10::AutoGradMode record(differentiated);
      const torch::Tensor n = normal.select(1, stage).detach().requires_grad_(differentiated);
      const torch::Tensor a = abnormal.select(1, stage).detach().requires_grad_(differentiated);
      const torch::Tensor focal = losses.focal(n, a, target);
      const torch::Tensor dice = losses.dice(a, target) + losses.dice(n, 1 - target);
      if (differentiated) {
        const auto gradients = torch::autograd::grad({focal + dice}, {n, a});
        normal_gradient.select(1, stage).copy_(gradients[0]);
        abnormal_gradient.select(1, stage).copy_(gradients[1]);
      }
      sums[0] += focal.detach();
      sums[1] += dice.detach();
    }
    context->save_for_backward({normal_gradient, abnormal_gradient});
    return sums;
  }

  // Both sums get the same gradient: only their own sum is differentiable.
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const torch::Tensor scale = gradients[0][0];
    return {saved[0] * scale, saved[1] * scale, torch::Tensor(), torch::Tensor(), torch::Tensor()};
  }
};

torch::Tensor focal(const torch::Tensor& p) { return (-(1 - p).pow(gamma) * p.log()).mean(); }

torch::Tensor dice_over(c10::IntArrayRef dimensions, const torch::Tensor& map, const torch::Tensor& mask) {
  const torch::Tensor target = mask.to(map.dtype());
  const auto sum = [&](const torch::Tensor& x) { return x.sum(dimensions); };
  return 1 - ((2 * sum(map * target) + dice_smoothing) / (sum(map) + sum(target) + dice_smoothing)).mean();
}

}  // namespace

torch::Tensor focal_loss(const torch::Tensor& normal, const torch::Tensor& abnormal, const torch::Tensor& mask) {
  const torch::Tensor target = mask.to(abnormal.dtype());
  return focal(torch::where(target > 0.5, abnormal, normal).clamp_min(log_floor));
}

torch::Tensor filo_release_focal_loss(const torch::Tensor& normal, const torch::Tensor& abnormal,
                                      const torch::Tensor& mask) {
  const torch::Tensor target = mask.to(abnormal.dtype()).clamp(release_label_smoothing, 1 - release_label_smoothing);
  return focal(target * abnormal + (1 - target) * normal + release_label_smoothing);
}

torch::Tensor dice_loss(const torch::Tensor& map, const torch::Tensor& mask) { return dice_over({-2, -1}, map, mask); }

torch::Tensor filo_release_dice_loss(const torch::Tensor& map, const torch::Tensor& mask) {
  return dice_over({-1}, map, mask);
}

LocalLoss local_loss(const torch::Tensor& maps_normal, const torch::Tensor& maps_abnormal, const torch::Tensor& mask,
                     const StageLosses& losses) {
  expect_mask(maps_abnormal, mask);
  const bool differentiated =
      c10::GradMode::is_enabled() && (maps_normal.requires_grad() || maps_abnormal.requires_grad());
  const torch::Tensor sums = LossOfStages::apply(maps_normal, maps_abnormal, mask, losses, differentiated);
  return {.focal = sums[0].detach(), .dice = sums[1].detach(), .local = sums.sum()};
}

torch::Tensor global_loss(const torch::Tensor& logits, const torch::Tensor& labels) {
  return torch::nn::functional::cross_entropy(logits, labels);
}

}  // namespace filo
