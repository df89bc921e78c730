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

// Guards the schedule: transformers' get_cosine_schedule_with_warmup(num_warmup_steps=2, num_training_steps=6) and
// get_linear_schedule_with_warmup() give these.
TEST(Schedule, IsTransformers) {
  const double cosine[] = {0, 0.5, 1, 0.8535533905932737, 0.5, 0.14644660940672627};
  const double linear[] = {0, 0.5, 1, 0.75, 0.5, 0.25};
  for (int step = 0; step < 6; ++step) {
    EXPECT_NEAR(schedule_factor(Schedule::cosine, 2, step, 6), cosine[step], 1e-12);
    EXPECT_NEAR(schedule_factor(Schedule::linear, 2, step, 6), linear[step], 1e-12);
    EXPECT_EQ(schedule_factor(Schedule::constant, 0, step, 6), 1);
  }
  EXPECT_EQ(schedule_factor(Schedule::constant, 4, 1, 6), 0.25);
}

// Guards a step at a part of its learning rate.
TEST(AdamW, TakesAFactorOfItsLearningRates) {
  TensorMap half = {{"a", torch::ones({4})}}, full = {{"a", torch::ones({4})}};
  AdamW with_factor(half, {{{"a"}, 2e-2}}), without(full, {{{"a"}, 1e-2}});
  with_factor.step(gradients_at(half, 1), 0.5);
  without.step(gradients_at(full, 1));
  EXPECT_TRUE(torch::equal(half["a"], full["a"]));
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
