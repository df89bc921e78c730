#include "model/layers/deform_conv.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.hpp"

namespace filo {
namespace {

struct Case {
  torch::Tensor input, weight, offset, mask;  // mask may be undefined
  Precision precision = Precision::fp32;

  torch::Tensor output() const {
    return deform_conv2d(input, weight, offset, mask.defined() ? std::optional(mask) : std::nullopt, precision);
  }
  std::vector<torch::Tensor> leaves() const {
    std::vector<torch::Tensor> all = {input, weight, offset};
    if (mask.defined()) all.push_back(mask);
    return all;
  }
};

Case random_case(std::int64_t kernel_height, std::int64_t kernel_width, torch::ScalarType type, double offset_scale,
                 bool with_mask) {
  torch::manual_seed(5);
  const std::int64_t taps = kernel_height * kernel_width;
  const auto options = torch::TensorOptions().dtype(type);
  Case c;
  c.input = torch::randn({2, 7, 6, 20}, options).requires_grad_();
  c.weight = torch::randn({5, 20, kernel_height, kernel_width}, options).mul_(0.2).requires_grad_();
  c.offset = (torch::randn({2, 2 * taps, 7, 6}, options) * offset_scale).requires_grad_();
  if (with_mask) c.mask = torch::rand({2, taps, 7, 6}, options).requires_grad_();
  return c;
}

double relative_difference(const torch::Tensor& a, const torch::Tensor& b) {
  return (a - b).norm().item<double>() / (b.norm().item<double>() + 1e-300);
}

// Guards the sampling grid: at offset zero the deformable convolution is the plain one, also in its weights' gradient.
TEST(DeformConv, IsThePlainConvolutionAtZeroOffsets) {
  for (const auto& [kh, kw] : {std::pair{1, 1}, {3, 3}, {7, 7}, {1, 5}, {5, 1}}) {
    const Case c = random_case(kh, kw, torch::kFloat64, 0, false);
    const torch::Tensor plain =
        torch::conv2d(c.input.permute({0, 3, 1, 2}), c.weight, {}, 1, {kh / 2, kw / 2}).permute({0, 2, 3, 1});
    const torch::Tensor output = c.output();
    EXPECT_LT(relative_difference(output, plain), 1e-12);
    const torch::Tensor pull = torch::randn_like(output);
    const auto found = torch::autograd::grad({output}, {c.weight, c.input}, {pull});
    const auto wanted = torch::autograd::grad({plain}, {c.weight, c.input}, {pull});
    EXPECT_LT(relative_difference(found[0], wanted[0]), 1e-12);
    EXPECT_LT(relative_difference(found[1], wanted[1]), 1e-12);
  }
}

// Guards every gradient against central differences in float64: offsets inside, across the border and between pixels.
TEST(DeformConv, GradientsEqualFiniteDifferences) {
  for (const bool with_mask : {false, true}) {
    for (const auto& [kh, kw] : {std::pair{3, 3}, {1, 5}, {5, 1}}) {
      const Case c = random_case(kh, kw, torch::kFloat64, 1.7, with_mask);
      const torch::Tensor output = c.output();
      const torch::Tensor pull = torch::randn_like(output);
      const auto gradients = torch::autograd::grad({output}, c.leaves(), {pull});
      const torch::NoGradGuard no_grad;
      const double step = 1e-6;
      const auto leaves = c.leaves();
      for (std::size_t i = 0; i < leaves.size(); ++i) {
        torch::Tensor flat = leaves[i].view({-1});
        for (std::int64_t k = 0; k < flat.numel(); k += 1 + flat.numel() / 40) {
          const double value = flat[k].item<double>();
          flat[k] = value + step;
          const double above = (c.output() * pull).sum().item<double>();
          flat[k] = value - step;
          const double below = (c.output() * pull).sum().item<double>();
          flat[k] = value;
          EXPECT_NEAR(gradients[i].view({-1})[k].item<double>(), (above - below) / (2 * step), 1e-6)
              << "leaf " << i << " element " << k;
        }
      }
    }
  }
}

// Guards reading outside the image: far, infinite and NaN offsets sample zero and have zero gradients.
TEST(DeformConv, OffsetsFarOutsideSampleZero) {
  for (const double far : {1e4, -1e4, 1e30, -1e30, std::numeric_limits<double>::infinity(),
                           -std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    Case c = random_case(3, 3, torch::kFloat32, 0, true);
    c.offset = torch::full_like(c.offset, far).requires_grad_();
    const torch::Tensor output = c.output();
    EXPECT_EQ(output.abs().max().item<double>(), 0);
    for (const torch::Tensor& gradient : torch::autograd::grad({output}, c.leaves(), {torch::ones_like(output)})) {
      EXPECT_EQ(gradient.abs().max().item<double>(), 0);
    }
  }
}

// Guards the seams between tiles: more rows and taps than one tile holds give what small pieces give.
TEST(DeformConv, TilesDoNotShow) {
  torch::manual_seed(2);
  const std::int64_t batch = 3, side = 21, channels = 640;  // 1323 rows; 9 taps of 1024 rows are 23.6 MB
  const torch::Tensor input = torch::randn({batch, side, side, channels});
  const torch::Tensor weight = torch::randn({4, channels, 3, 3}).mul_(0.05).requires_grad_();
  const torch::Tensor offset = torch::randn({batch, 18, side, side}).requires_grad_();
  const torch::Tensor whole = deform_conv2d(input, weight, offset, std::nullopt, Precision::fp32);
  const torch::Tensor pull = torch::randn_like(whole);
  const auto gradients = torch::autograd::grad({whole}, {weight, offset}, {pull});
  torch::Tensor weight_sum = torch::zeros_like(weight);
  for (std::int64_t b = 0; b < batch; ++b) {
    const torch::Tensor one =
        deform_conv2d(input.narrow(0, b, 1), weight, offset.narrow(0, b, 1), std::nullopt, Precision::fp32);
    EXPECT_LT(relative_difference(whole.narrow(0, b, 1), one), 1e-5);
    const auto parts = torch::autograd::grad({one}, {weight, offset}, {pull.narrow(0, b, 1)});
    weight_sum += parts[0];
    EXPECT_LT(relative_difference(gradients[1].narrow(0, b, 1), parts[1].narrow(0, b, 1)), 1e-5);
  }
  EXPECT_LT(relative_difference(gradients[0], weight_sum), 1e-5);
}

// Guards "the same bits twice", forward and every gradient.
TEST(DeformConv, IsDeterministic) {
  const auto once = [] {
    const Case c = random_case(5, 5, torch::kFloat32, 1, true);
    const torch::Tensor output = c.output();
    auto all = torch::autograd::grad({output}, c.leaves(), {torch::randn_like(output)});
    all.push_back(output);
    return all;
  };
  const auto first = once(), second = once();
  for (std::size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(torch::equal(first[i], second[i]));
}

// Guards bf16's error: within its 8 bits of mantissa of the float32 result, with sums that do not lose more.
TEST(DeformConv, Bfloat16StaysWithinItsRounding) {
  Case c = random_case(7, 7, torch::kFloat32, 1, true);
  const torch::Tensor exact = c.output();
  const torch::Tensor pull = torch::randn_like(exact);
  const auto wanted = torch::autograd::grad({exact}, c.leaves(), {pull});
  c.precision = Precision::bf16;
  const torch::Tensor rounded = c.output();
  EXPECT_EQ(rounded.scalar_type(), torch::kFloat32);
  EXPECT_LT(relative_difference(rounded, exact), 6e-3);
  EXPECT_GT(relative_difference(rounded, exact), 1e-5);
  const auto found = torch::autograd::grad({rounded}, c.leaves(), {pull});
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_LT(relative_difference(found[i], wanted[i]), 8e-3) << i;
}

// Guards the frozen case: no gradient for an input that does not ask for one.
TEST(DeformConv, LeavesAFrozenInputAlone) {
  Case c = random_case(3, 3, torch::kFloat32, 1, false);
  c.input = c.input.detach();
  c.output().sum().backward();
  EXPECT_FALSE(c.input.grad().defined());
  EXPECT_TRUE(c.weight.grad().defined());
  EXPECT_TRUE(c.offset.grad().defined());
}

std::string error_of(const Case& c) {
  try {
    c.output();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// Guards messages: tensor, shape found, shape expected.
TEST(DeformConv, NamesTheTensorOfAWrongShape) {
  using testing::AllOf, testing::HasSubstr;
  const Case good = random_case(3, 3, torch::kFloat32, 1, true);
  Case bad = good;
  bad.offset = torch::zeros({2, 9, 7, 6});
  EXPECT_THAT(error_of(bad), AllOf(HasSubstr("offset"), HasSubstr("[2, 9, 7, 6]"), HasSubstr("[2, 18, 7, 6]")));
  bad = good;
  bad.mask = torch::zeros({2, 18, 7, 6});
  EXPECT_THAT(error_of(bad), AllOf(HasSubstr("mask"), HasSubstr("[2, 18, 7, 6]"), HasSubstr("[2, 9, 7, 6]")));
  bad = good;
  bad.weight = torch::zeros({5, 21, 3, 3});
  EXPECT_THAT(error_of(bad), AllOf(HasSubstr("weight"), HasSubstr("[5, 21, 3, 3]"), HasSubstr("[5, 20, 3, 3]")));
  bad = good;
  bad.weight = torch::zeros({5, 20, 3, 2});
  EXPECT_THAT(error_of(bad), AllOf(HasSubstr("weight"), HasSubstr("[5, 20, 3, 2]"), HasSubstr("odd")));
  bad = good;
  bad.input = torch::zeros({2, 7, 6, 20}, torch::kInt32);
  EXPECT_THAT(error_of(bad), AllOf(HasSubstr("input"), HasSubstr("Int"), HasSubstr("float32 or float64")));
  bad = good;
  bad.offset = torch::zeros({2, 18, 7, 6}, torch::kFloat64);
  EXPECT_THAT(error_of(bad), AllOf(HasSubstr("offset"), HasSubstr("Double"), HasSubstr("Float")));
}

}  // namespace
}  // namespace filo
