// AdamW against LibTorch's own, and its state through a round trip.
#include "trainer/optimizer.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "base/error.hpp"

namespace filo {
namespace {

TensorMap gradients_at(const TensorMap& parameters, int step) {
  TensorMap gradients;
  for (const auto& [name, parameter] : parameters)
    gradients[name] = torch::sin(parameter.detach() * 3 + step) + 0.1 * step;
  return gradients;
}

TEST(AdamW, EqualsLibTorchsOwnStepByStep) {
  torch::manual_seed(1);
  TensorMap parameters = {{"a", torch::randn({5, 3}).requires_grad_()}, {"b", torch::randn({7}).requires_grad_()}};
  const torch::Tensor peer_a = parameters["a"].detach().clone().requires_grad_();
  const torch::Tensor peer_b = parameters["b"].detach().clone().requires_grad_();
  AdamW optimizer(parameters, {{{"a"}, 1e-2}, {{"b"}, 1e-3}});
  torch::optim::AdamW peer_of_a({peer_a}, torch::optim::AdamWOptions(1e-2).betas({0.5, 0.999}));
  torch::optim::AdamW peer_of_b({peer_b}, torch::optim::AdamWOptions(1e-3).betas({0.5, 0.999}));
  for (int step = 0; step < 20; ++step) {
    const TensorMap gradients = gradients_at(parameters, step);
    peer_a.mutable_grad() = gradients.at("a").clone();
    peer_b.mutable_grad() = gradients.at("b").clone();
    peer_of_a.step();
    peer_of_b.step();
    optimizer.step(gradients);
  }
  EXPECT_TRUE(torch::allclose(parameters["a"], peer_a, 1e-6, 1e-7));
  EXPECT_TRUE(torch::allclose(parameters["b"], peer_b, 1e-6, 1e-7));
}

TEST(AdamW, GoesOnBitForBitFromItsState) {
  TensorMap straight = {{"a", torch::arange(6, torch::kFloat)}};
  TensorMap resumed = {{"a", straight["a"].clone()}};
  AdamW first(straight, {{{"a"}, 1e-2}});
  AdamW before(resumed, {{{"a"}, 1e-2}});
  for (int step = 0; step < 3; ++step) {
    first.step(gradients_at(straight, step));
    before.step(gradients_at(resumed, step));
  }
  AdamW after(resumed, {{{"a"}, 1e-2}});
  after.load_state(before.state(), "test");
  for (int step = 3; step < 6; ++step) {
    first.step(gradients_at(straight, step));
    after.step(gradients_at(resumed, step));
  }
  EXPECT_TRUE(torch::equal(straight["a"], resumed["a"]));
}

TEST(AdamW, LeavesParametersWithoutGradientAlone) {
  TensorMap parameters = {{"a", torch::ones({2})}, {"b", torch::ones({2})}};
  AdamW optimizer(parameters, {{{"a", "b"}, 1e-2}});
  optimizer.step({{"a", torch::ones({2})}});
  EXPECT_FALSE(torch::equal(parameters["a"], torch::ones({2})));
  EXPECT_TRUE(torch::equal(parameters["b"], torch::ones({2})));
}

TEST(AdamW, RefusesAStateOfAnotherModel) {
  TensorMap parameters = {{"a", torch::ones({2})}};
  AdamW optimizer(parameters, {{{"a"}, 1e-2}});
  TensorMap state = optimizer.state();
  state["a/exp_avg"] = torch::zeros({3});
  EXPECT_THROW(optimizer.load_state(state, "snapshot"), Error);
  state.erase("a/exp_avg");
  EXPECT_THROW(optimizer.load_state(state, "snapshot"), Error);
}

}  // namespace
}  // namespace filo
