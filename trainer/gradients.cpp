#include "trainer/gradients.hpp"

#include <torch/torch.h>

namespace filo {
namespace {

std::vector<std::size_t> element_counts(const TensorMap& parameters, const std::vector<std::string>& names) {
  std::vector<std::size_t> counts;
  for (const std::string& name : names) counts.push_back(static_cast<std::size_t>(parameters.at(name).numel()));
  return counts;
}

}  // namespace

GradientExchange::GradientExchange(Communicator& communicator, const TensorMap& parameters,
                                   const std::vector<std::string>& names)
    : buckets_(communicator, element_counts(parameters, names)) {
  for (const std::string& name : names) members_.push_back({name, parameters.at(name)});
  for (std::size_t i = 0; i < members_.size(); ++i)
    members_[i].hook = members_[i].parameter.register_hook([this, i](const torch::Tensor& gradient) {
      const torch::Tensor flat = gradient.to(torch::kFloat).contiguous();
      buckets_.mark_ready(i, flat.data_ptr<float>());
    });
}

GradientExchange::~GradientExchange() {
  for (Member& member : members_) member.parameter.remove_hook(member.hook);
}

void GradientExchange::begin() {
  for (Member& member : members_) member.parameter.mutable_grad().reset();
}

TensorMap GradientExchange::finish() {
  buckets_.finish();
  TensorMap gradients;
  for (std::size_t i = 0; i < members_.size(); ++i) {
    torch::Tensor& parameter = members_[i].parameter;
    gradients[members_[i].name] = torch::from_blob(const_cast<float*>(buckets_.reduced(i)), parameter.sizes(),
                                                   parameter.options().requires_grad(false))
                                      .clone();
    parameter.mutable_grad().reset();
  }
  return gradients;
}

}  // namespace filo
