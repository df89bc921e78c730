#include "model/products.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <memory>
#include <thread>

#include "base/signals.hpp"

namespace filo {
namespace {

// Largest difference, of the largest value.
double difference(const torch::Tensor& found, const torch::Tensor& exact) {
  return ((found.to(torch::kFloat64) - exact).abs().max() / exact.abs().max()).item<double>();
}

struct Layer {
  torch::Tensor x, weight, bias, pull;
  torch::Tensor y = {}, of_x = {}, of_weight = {}, of_bias = {};  // in float64 by LibTorch
};

// Sizes that are no multiple of a vector, and an input of three dimensions.
Layer random_layer() {
  torch::manual_seed(3);
  Layer layer{torch::randn({3, 11, 37}), torch::randn({29, 37}), torch::randn({29}), torch::randn({3, 11, 29})};
  const auto exact = [](const torch::Tensor& tensor) { return tensor.to(torch::kFloat64).requires_grad_(); };
  const torch::Tensor x = exact(layer.x), weight = exact(layer.weight), bias = exact(layer.bias);
  layer.y = torch::linear(x, weight, bias);
  const auto gradients = torch::autograd::grad({layer.y}, {x, weight, bias}, {layer.pull.to(torch::kFloat64)});
  layer.of_x = gradients[0], layer.of_weight = gradients[1], layer.of_bias = gradients[2];
  return layer;
}

using Case = std::tuple<Products, Precision>;

class ProductsTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (by() == Products::onednn && !at::hasMKLDNN()) GTEST_SKIP() << "this LibTorch comes without oneDNN";
  }
  static Products by() { return std::get<0>(GetParam()); }
  static Precision precision() { return std::get<1>(GetParam()); }
  static double tolerance() { return precision() == Precision::fp32 ? 2e-6 : 1.5e-2; }
};

INSTANTIATE_TEST_SUITE_P(All, ProductsTest,
                         testing::Combine(testing::Values(Products::libtorch, Products::onednn),
                                          testing::Values(Precision::fp32, Precision::bf16)));

// Guards: a trained layer and its three gradients are those of the definition, whoever computes them.
TEST_P(ProductsTest, LinearIsTheDefinition) {
  const Layer layer = random_layer();
  const auto leaf = [](const torch::Tensor& tensor) { return tensor.clone().requires_grad_(); };
  const torch::Tensor x = leaf(layer.x), weight = leaf(layer.weight), bias = leaf(layer.bias);
  const torch::Tensor y = linear(x, weight, bias, precision(), by());
  EXPECT_EQ(y.scalar_type(), torch::kFloat32);
  EXPECT_LT(difference(y, layer.y), tolerance());
  const auto gradients = torch::autograd::grad({y}, {x, weight, bias}, {layer.pull});
  EXPECT_LT(difference(gradients[0], layer.of_x), tolerance());
  EXPECT_LT(difference(gradients[1], layer.of_weight), tolerance());
  EXPECT_LT(difference(gradients[2], layer.of_bias), tolerance());
}

// Guards: a layer without a bias, and one of whose operands the weight alone is trained, as the stages' are.
TEST_P(ProductsTest, LinearDoesWithoutBiasAndInputGradient) {
  const Layer layer = random_layer();
  const torch::Tensor weight = layer.weight.clone().requires_grad_();
  const torch::Tensor y = linear(layer.x, weight, {}, precision(), by());
  EXPECT_LT(difference(y, layer.y.detach() - layer.bias.to(torch::kFloat64)), tolerance());
  const auto gradients = torch::autograd::grad({y}, {weight}, {layer.pull});
  EXPECT_LT(difference(gradients[0], layer.of_weight), tolerance());
}

// Guards: a frozen layer and its input's gradient are those of the definition, with the same bits each time, whatever
// was wanted of it before.
TEST_P(ProductsTest, FrozenLinearIsTheDefinition) {
  const Layer layer = random_layer();
  const FrozenLinear frozen(layer.weight, layer.bias, by()), used(layer.weight, layer.bias, by());
  const auto other = precision() == Precision::fp32 ? Precision::bf16 : Precision::fp32;
  const auto both = [&](const FrozenLinear& of, Precision as) {
    const torch::Tensor x = layer.x.clone().requires_grad_();
    const torch::Tensor y = of(x, as);
    return std::pair(y.detach(), torch::autograd::grad({y}, {x}, {layer.pull})[0]);
  };
  both(used, other);
  const auto [y, of_x] = both(frozen, precision());
  EXPECT_LT(difference(y, layer.y.detach()), tolerance());
  EXPECT_LT(difference(of_x, layer.of_x), tolerance());
  const auto again = both(used, precision());
  EXPECT_TRUE(torch::equal(again.first, y));
  EXPECT_TRUE(torch::equal(again.second, of_x));
  EXPECT_TRUE(torch::equal(frozen(layer.x, precision()), y));  // without a gradient
}

// Guards stops in the middle of a product: oneDNN's float32 products point the stack pointer into their work buffer, so
// that a handler without a stack of its own writes into the heap (and did).
TEST(Products, ASignalInTheMiddleOfAProductHarmsNothing) {
  if (!at::hasMKLDNN()) GTEST_SKIP() << "this LibTorch comes without oneDNN";
  const pid_t child = fork();
  if (child == 0) {
    torch::set_num_threads(1);
    install_stop_handlers();
    const FrozenLinear layer(torch::randn({512, 128}), torch::randn({512}), Products::onednn);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    std::unique_ptr<SignalsBlocked> blocked = std::make_unique<SignalsBlocked>();
    std::jthread sender([](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        kill(getpid(), SIGUSR2);
        std::this_thread::sleep_for(std::chrono::microseconds(100));
      }
    });
    blocked.reset();
    while (std::chrono::steady_clock::now() < end)
      for (const std::int64_t rows : {7, 33, 65, 240, 505}) layer(torch::randn({rows, 128}));
    _exit(stop_requested() == SIGUSR2 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace filo
