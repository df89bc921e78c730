#include "trainer/losses.hpp"

#include "base/error.hpp"
#include "checkpoint/safetensors.hpp"

namespace filo {
namespace {

constexpr double dice_smoothing = 1;
constexpr double log_floor = 1e-30;  // paper: only against log(0); a pixel that is surely wrong keeps its gradient
constexpr double release_label_smoothing = 1e-5;  // filo-release

void expect_mask(const torch::Tensor& maps, const torch::Tensor& mask) {
  if (mask.dim() == 3 && mask.size(0) == maps.size(0) && mask.sizes().slice(1) == maps.sizes().slice(2)) return;
  throw UsageError("loss: mask", "shape " + shape_to_string(mask.sizes()) + ", expected [" +
                                     std::to_string(maps.size(0)) + ", " + std::to_string(maps.size(2)) + ", " +
                                     std::to_string(maps.size(3)) + "]");
}

}  // namespace

torch::Tensor focal_loss(const torch::Tensor& normal, const torch::Tensor& abnormal, const torch::Tensor& mask,
                         Profile profile, double gamma) {
  torch::Tensor target = mask.to(abnormal.dtype());
  torch::Tensor p;
  if (profile == Profile::filo_release) {
    target = target.clamp(release_label_smoothing, 1 - release_label_smoothing);
    p = target * abnormal + (1 - target) * normal + release_label_smoothing;
  } else {
    p = torch::where(target > 0.5, abnormal, normal).clamp_min(log_floor);
  }
  return (-(1 - p).pow(gamma) * p.log()).mean();
}

torch::Tensor dice_loss(const torch::Tensor& map, const torch::Tensor& mask, Profile profile) {
  const bool by_row = profile == Profile::filo_release;
  const torch::Tensor target = mask.to(map.dtype());
  const auto sum = [by_row](const torch::Tensor& x) { return by_row ? x.sum(-1) : x.sum(c10::IntArrayRef({-2, -1})); };
  return 1 - ((2 * sum(map * target) + dice_smoothing) / (sum(map) + sum(target) + dice_smoothing)).mean();
}

LocalLoss local_loss(const torch::Tensor& maps_normal, const torch::Tensor& maps_abnormal, const torch::Tensor& mask,
                     Profile profile) {
  expect_mask(maps_abnormal, mask);
  const auto stages = static_cast<double>(maps_abnormal.size(1));
  const torch::Tensor target = mask.to(maps_abnormal.dtype()).unsqueeze(1).expand_as(maps_abnormal);
  LocalLoss loss;
  // Every mean below runs over images and stages alike; times the stages it is their sum.
  loss.focal = stages * focal_loss(maps_normal, maps_abnormal, target, profile);
  loss.dice = stages * (dice_loss(maps_abnormal, target, profile) + dice_loss(maps_normal, 1 - target, profile));
  loss.local = loss.focal + loss.dice;
  return loss;
}

torch::Tensor global_loss(const torch::Tensor& logits, const torch::Tensor& labels) {
  return torch::nn::functional::cross_entropy(logits, labels);
}

}  // namespace filo
