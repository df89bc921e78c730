#include "trainer/optimizer.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.hpp"

namespace filo {

AdamW::AdamW(const TensorMap& parameters, const std::vector<ParameterGroup>& groups, AdamWOptions options)
    : options_(options) {
  for (const ParameterGroup& group : groups) {
    for (const std::string& name : group.names) {
      const auto found = parameters.find(name);
      if (found == parameters.end()) throw Error("optimizer", "no parameter is called '" + name + "'");
      const torch::Tensor value = found->second.detach();
      slots_[name] = {value, torch::zeros_like(value), torch::zeros_like(value), 0, group.learning_rate};
    }
  }
}

void AdamW::step(const TensorMap& gradients, double factor) {
  const torch::NoGradGuard no_grad;
  for (auto& [name, slot] : slots_) {
    const auto found = gradients.find(name);
    if (found == gradients.end()) continue;
    const torch::Tensor& gradient = found->second;
    ++slot.step;
    const torch::Tensor step =
        torch::full({}, static_cast<double>(slot.step), gradient.options().dtype(torch::kFloat32));
    // One pass over the memory; the same formula, operation by operation, takes seven.
    at::_fused_adamw_({slot.parameter}, {gradient}, {slot.exp_avg}, {slot.exp_avg_sq}, {}, {step},
                      slot.learning_rate * factor, options_.beta1, options_.beta2, options_.weight_decay,
                      options_.epsilon, /*amsgrad=*/false,
                      /*maximize=*/false);
  }
}

TensorMap AdamW::state() const {
  TensorMap state;
  for (const auto& [name, slot] : slots_) {
    state[name + "/exp_avg"] = slot.exp_avg;
    state[name + "/exp_avg_sq"] = slot.exp_avg_sq;
    state[name + "/step"] = torch::tensor({slot.step}, torch::kInt64);
  }
  return state;
}

void AdamW::load_state(const TensorMap& state, const std::string& where) {
  const torch::NoGradGuard no_grad;
  if (state.size() != slots_.size() * 3)
    throw Error(where,
                "holds " + std::to_string(state.size()) + " tensors, expected " + std::to_string(slots_.size() * 3));
  const auto take = [&](const std::string& name, c10::IntArrayRef shape) {
    const auto found = state.find(name);
    if (found == state.end()) throw Error(where, "tensor '" + name + "' is missing");
    if (found->second.sizes() != shape)
      throw Error(where, "tensor '" + name + "' has shape " + c10::str(found->second.sizes()) + ", expected " +
                             c10::str(shape));
    return found->second;
  };
  for (auto& [name, slot] : slots_) {
    slot.exp_avg.copy_(take(name + "/exp_avg", slot.parameter.sizes()));
    slot.exp_avg_sq.copy_(take(name + "/exp_avg_sq", slot.parameter.sizes()));
    slot.step = take(name + "/step", {1}).to(torch::kCPU).item<std::int64_t>();
  }
}

double schedule_factor(Schedule schedule, std::int64_t warmup, std::int64_t step, std::int64_t steps) {
  const auto at = static_cast<double>(step), up = static_cast<double>(warmup);
  if (step < warmup) return at / up;
  const double left = std::max(1.0, static_cast<double>(steps) - up);
  switch (schedule) {
    case Schedule::constant:
      return 1;
    case Schedule::linear:
      return std::max(0.0, (static_cast<double>(steps) - at) / left);
    case Schedule::cosine:
      return std::max(0.0, 0.5 * (1 + std::cos(std::numbers::pi * (at - up) / left)));
  }
  return 1;
}

}  // namespace filo
