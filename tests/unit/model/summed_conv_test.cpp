#include "model/layers/summed_conv.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.hpp"

namespace filo {
namespace {

struct Case {
  torch::Tensor input;
  std::vector<torch::Tensor> weights, biases;
};

Case random_case(std::int64_t batch, std::int64_t height, std::int64_t width,
                 const std::vector<std::array<std::int64_t, 2>>& kernels, torch::ScalarType type) {
  torch::manual_seed(3);
  const auto options = torch::TensorOptions().dtype(type);
  Case result{torch::randn({batch, height, width, 24}, options), {}, {}};
  for (const auto& kernel : kernels) {
    result.weights.push_back(torch::randn({20, 24, kernel[0], kernel[1]}, options).mul_(0.1).requires_grad_());
    result.biases.push_back(torch::randn({20}, options).requires_grad_());
  }
  return result;
}

torch::Tensor direct(const Case& c) {
  torch::Tensor sum;
  for (std::size_t j = 0; j < c.weights.size(); ++j) {
    const auto& weight = c.weights[j];
    const torch::Tensor one =
        torch::conv2d(c.input.permute({0, 3, 1, 2}), weight, c.biases[j], 1, {weight.size(2) / 2, weight.size(3) / 2})
            .permute({0, 2, 3, 1});
    sum = sum.defined() ? sum + one : one;
  }
  return sum;
}

double relative_difference(const torch::Tensor& a, const torch::Tensor& b) {
  return (a - b).norm().item<double>() / b.norm().item<double>();
}

void expect_equal_to_direct(Case c, double tolerance) {
  c.input.requires_grad_();
  const torch::Tensor output = summed_conv2d(c.input, c.weights, c.biases);
  ASSERT_EQ(output.sizes(), torch::IntArrayRef({c.input.size(0), c.input.size(1), c.input.size(2), 20}));
  const torch::Tensor expected = direct(c);
  EXPECT_LT(relative_difference(output, expected), tolerance);
  const torch::Tensor pull = torch::randn_like(output);
  std::vector<torch::Tensor> leaves = {c.input};
  leaves.insert(leaves.end(), c.weights.begin(), c.weights.end());
  leaves.insert(leaves.end(), c.biases.begin(), c.biases.end());
  const auto found = torch::autograd::grad({output}, leaves, {pull});
  const auto wanted = torch::autograd::grad({expected}, leaves, {pull});
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    EXPECT_LT(relative_difference(found[i], wanted[i]), tolerance) << "gradient " << i;
  }
}

const std::vector<std::array<std::int64_t, 2>> filo_kernels = {{1, 1}, {3, 3}, {5, 5}, {7, 7}, {1, 5}, {5, 1}};

// Guards the fast algorithm against the plain sum of convolutions, values and gradients, on FiLo's own kernels.
TEST(SummedConv, EqualsTheSumOfPlainConvolutions) {
  expect_equal_to_direct(random_case(2, 37, 37, filo_kernels, torch::kFloat64), 1e-12);
  expect_equal_to_direct(random_case(2, 37, 37, filo_kernels, torch::kFloat32), 1e-5);
}

// Guards tile borders: sizes that are no multiple of a tile, narrower than the kernel, and not square.
TEST(SummedConv, HoldsForAnyImageSize) {
  for (const auto& [height, width] : {std::pair{1, 1}, {2, 5}, {3, 19}, {14, 13}, {26, 40}}) {
    expect_equal_to_direct(random_case(3, height, width, filo_kernels, torch::kFloat64), 1e-12);
  }
}

// Guards kernel lists that do not span a square, or have one tap only.
TEST(SummedConv, HoldsForAnyKernelList) {
  using List = std::vector<std::array<std::int64_t, 2>>;
  for (const List& list : {List{{1, 1}}, List{{1, 5}}, List{{5, 1}}, List{{1, 7}, {3, 1}}, List{{9, 3}, {9, 3}}}) {
    expect_equal_to_direct(random_case(2, 16, 11, list, torch::kFloat64), 1e-12);
  }
}

// Guards the training case: the input is frozen, no bias, and only some weights learn.
TEST(SummedConv, GivesGradientsOnlyWhereTheyAreWanted) {
  Case c = random_case(1, 8, 8, {{3, 3}, {1, 1}}, torch::kFloat32);
  c.weights[1] = c.weights[1].detach();
  summed_conv2d(c.input, c.weights, {}).sum().backward();
  EXPECT_TRUE(c.weights[0].grad().defined());
  EXPECT_FALSE(c.weights[1].grad().defined());
  EXPECT_FALSE(c.input.grad().defined());
}

// Guards "the same bits twice".
TEST(SummedConv, IsDeterministic) {
  const auto once = [] {
    Case c = random_case(2, 20, 20, filo_kernels, torch::kFloat32);
    const torch::Tensor output = summed_conv2d(c.input, c.weights, c.biases);
    auto all = torch::autograd::grad({output}, c.weights, {torch::randn_like(output)});
    all.push_back(output);
    return all;
  };
  const auto first = once(), second = once();
  for (std::size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(torch::equal(first[i], second[i]));
}

std::string error_of(const Case& c) {
  try {
    summed_conv2d(c.input, c.weights, c.biases);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// Guards messages: tensor, shape found, shape expected.
TEST(SummedConv, NamesTheTensorOfAWrongShape) {
  using testing::AllOf, testing::HasSubstr;
  const Case good = random_case(1, 6, 6, {{3, 3}, {1, 1}}, torch::kFloat32);
  Case bad = good;
  bad.weights[1] = torch::zeros({20, 23, 1, 1});
  EXPECT_THAT(error_of(bad),
              AllOf(HasSubstr("weights[1]"), HasSubstr("[20, 23, 1, 1]"), HasSubstr("[20, 24, odd, odd]")));
  bad = good;
  bad.weights[0] = torch::zeros({20, 24, 2, 3});
  EXPECT_THAT(error_of(bad), AllOf(HasSubstr("weights[0]"), HasSubstr("[20, 24, 2, 3]"), HasSubstr("odd")));
  bad = good;
  bad.biases[0] = torch::zeros({19});
  EXPECT_THAT(error_of(bad), AllOf(HasSubstr("biases[0]"), HasSubstr("[19]"), HasSubstr("[20]")));
  bad = good;
  bad.biases.pop_back();
  EXPECT_THAT(error_of(bad), AllOf(HasSubstr("biases"), HasSubstr("found 1"), HasSubstr("2")));
  bad = good;
  bad.input = torch::zeros({6, 6, 24});
  EXPECT_THAT(error_of(bad), AllOf(HasSubstr("input"), HasSubstr("[6, 6, 24]"), HasSubstr("[B, H, W, C_in]")));
  bad = good;
  bad.weights.clear();
  EXPECT_THAT(error_of(bad), HasSubstr("weights"));
}

}  // namespace
}  // namespace filo
