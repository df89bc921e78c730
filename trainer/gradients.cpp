#include "trainer/gradients.hpp"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/torch.h>

#include <map>
#include <sstream>

#include "base/error.hpp"
#include "base/hash.hpp"

namespace filo {
namespace {

std::vector<std::size_t> element_counts(const TensorMap& parameters, const std::vector<std::string>& names) {
  std::vector<std::size_t> counts;
  for (const std::string& name : names) counts.push_back(static_cast<std::size_t>(parameters.at(name).numel()));
  return counts;
}

}  // namespace

// Called when autograd has added to a parameter's gradient.
class GradientExchange::Hook : public torch::autograd::PostAccumulateGradHook {
 public:
  Hook(GradientExchange& exchange, std::size_t index) : exchange_(exchange), index_(index) {}
  void operator()(const torch::autograd::Variable&) override {
    if (exchange_.travelling_) exchange_.buckets_.mark_ready(index_);
  }

 private:
  GradientExchange& exchange_;
  std::size_t index_;
};

GradientExchange::GradientExchange(Communicator& communicator, const TensorMap& parameters,
                                   const std::vector<std::string>& names, Precision on_the_way)
    : buckets_(communicator, element_counts(parameters, names),
               on_the_way == Precision::bf16 ? Wire::bf16 : Wire::fp32) {
  for (const std::string& name : names) members_.push_back({name, parameters.at(name)});
  for (std::size_t i = 0; i < members_.size(); ++i) {
    const torch::Tensor& parameter = members_[i].parameter;
    gradients_[members_[i].name] =
        torch::from_blob(buckets_.data(i), parameter.sizes(), parameter.options().requires_grad(false));
    torch::autograd::impl::set_post_acc_grad_hooks(parameter, std::make_unique<Hook>(*this, i));
  }
}

GradientExchange::~GradientExchange() {
  for (Member& member : members_) {
    torch::autograd::impl::set_post_acc_grad_hooks(member.parameter, nullptr);
    member.parameter.mutable_grad().reset();
  }
}

void GradientExchange::begin() {
  travelling_ = false;
  buckets_.begin();
  for (Member& member : members_) member.parameter.mutable_grad() = gradients_.at(member.name);
}

const TensorMap& GradientExchange::finish() {
  buckets_.finish();
  for (Member& member : members_) member.parameter.mutable_grad().reset();
  return gradients_;
}

void broadcast_tensors(Communicator& host, TensorMap& tensors) {
  for (auto& [name, tensor] : tensors) {
    tensor = tensor.detach().to(torch::kCPU).contiguous();
    host.broadcast(tensor.data_ptr(), tensor.nbytes(), 0);
  }
}

void expect_equal_on_all_ranks(Communicator& host, const TensorMap& tensors, const std::string& where) {
  std::string mine;  // "NAME DIGEST" a line; names hold no line breaks
  for (const auto& [name, tensor] : tensors) {
    const torch::Tensor values = tensor.detach().to(torch::kCPU).contiguous();
    mine += name + " " + sha256_hex({static_cast<const char*>(values.data_ptr()), values.nbytes()}) + "\n";
  }
  const auto all = host.gather_bytes(mine);
  for (std::size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank] == mine) continue;
    std::istringstream ours(mine), theirs(all[rank]);
    std::string our_line, their_line;
    while (std::getline(ours, our_line) && std::getline(theirs, their_line) && our_line == their_line) {
    }
    throw Error(where, "rank " + std::to_string(rank) + " holds another " + our_line.substr(0, our_line.find(' ')) +
                           " than rank 0, expected the same bits on every rank: its host's memory or GPU may be bad, "
                           "or its worker is of another build");
  }
}

double norm_of(const TensorMap& tensors) {
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> list;
  list.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) list.push_back(tensor);
  if (list.empty()) return 0;
  return torch::stack(at::_foreach_norm(list)).to(torch::kDouble).norm().item<double>();
}

}  // namespace filo
