#include "model/layers/deform_conv.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.hpp"
#include "model/layers/deform_fused.hpp"

namespace filo {
namespace {

struct Case {
  torch::Tensor input, weight, offset, mask;  // mask may be undefined
  Precision precision = Precision::fp32;
  DeformKernels by = deform_kernels();

  torch::Tensor output() const {
    return deform_conv2d(input, weight, offset, mask.defined() ? std::optional(mask) : std::nullopt, precision, by);
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

// Each of the two ways to compute it on a CPU.
class DeformConvBy : public testing::TestWithParam<DeformKernels> {
 protected:
  void SetUp() override {
    if (GetParam() == DeformKernels::fused && !fused_deform_available(Precision::fp32)) GTEST_SKIP() << "no AVX-512";
  }
};

INSTANTIATE_TEST_SUITE_P(All, DeformConvBy, testing::Values(DeformKernels::columns, DeformKernels::fused),
                         [](const auto& given) { return std::string(deform_kernels_name(given.param)); });

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
TEST_P(DeformConvBy, OffsetsFarOutsideSampleZero) {
  for (const double far : {1e4, -1e4, 1e30, -1e30, std::numeric_limits<double>::infinity(),
                           -std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    Case c = random_case(3, 3, torch::kFloat32, 0, true);
    c.by = GetParam();
    c.offset = torch::full_like(c.offset, far).requires_grad_();
    const torch::Tensor output = c.output();
    EXPECT_EQ(output.abs().max().item<double>(), 0);
    for (const torch::Tensor& gradient : torch::autograd::grad({output}, c.leaves(), {torch::ones_like(output)})) {
      EXPECT_EQ(gradient.abs().max().item<double>(), 0);
    }
  }
}

// Guards the seams between tiles: more rows and taps than one tile holds give what small pieces give.
TEST_P(DeformConvBy, TilesDoNotShow) {
  torch::manual_seed(2);
  const std::int64_t batch = 3, side = 21, channels = 640;  // 1323 rows; 9 taps of 1024 rows are 23.6 MB
  const torch::Tensor input = torch::randn({batch, side, side, channels});
  const torch::Tensor weight = torch::randn({4, channels, 3, 3}).mul_(0.05).requires_grad_();
  const torch::Tensor offset = torch::randn({batch, 18, side, side}).requires_grad_();
  const torch::Tensor whole = deform_conv2d(input, weight, offset, std::nullopt, Precision::fp32, GetParam());
  const torch::Tensor pull = torch::randn_like(whole);
  const auto gradients = torch::autograd::grad({whole}, {weight, offset}, {pull});
  torch::Tensor weight_sum = torch::zeros_like(weight);
  for (std::int64_t b = 0; b < batch; ++b) {
    const torch::Tensor one =
        deform_conv2d(input.narrow(0, b, 1), weight, offset.narrow(0, b, 1), std::nullopt, Precision::fp32, GetParam());
    EXPECT_LT(relative_difference(whole.narrow(0, b, 1), one), 1e-5);
    const auto parts = torch::autograd::grad({one}, {weight, offset}, {pull.narrow(0, b, 1)});
    weight_sum += parts[0];
    EXPECT_LT(relative_difference(gradients[1].narrow(0, b, 1), parts[1].narrow(0, b, 1)), 1e-5);
  }
  EXPECT_LT(relative_difference(gradients[0], weight_sum), 1e-5);
}

// The value and the gradients of all leaves for one pull.
std::vector<torch::Tensor> results_of(const Case& c, const torch::Tensor& pull) {
  const torch::Tensor output = c.output();
  auto all = torch::autograd::grad({output}, c.leaves(), {pull.to(output.scalar_type())});
  all.push_back(output.detach());
  return all;
}

// Guards blocks and tiles that are not full: sizes that are no multiple of any, several blocks of channels, more taps
// and rows than a tile has, images that share a tile; value and every gradient against float64, whose gradients
// GradientsEqualFiniteDifferences holds.
TEST_P(DeformConvBy, AnySizeIsTheDefinition) {
  struct Size {
    std::int64_t batch, height, width, channels, outputs, kernel_height, kernel_width;
  };
  for (const Size& size : {Size{3, 11, 13, 300, 21, 3, 3},
                           {1, 1, 1, 1, 1, 1, 1},
                           {2, 5, 3, 33, 17, 5, 5},
                           {1, 13, 11, 128, 16, 1, 5},
                           {2, 17, 9, 130, 48, 7, 1}}) {
    for (const bool with_mask : {false, true}) {
      torch::manual_seed(4);
      const std::int64_t taps = size.kernel_height * size.kernel_width;
      const auto leaf = [](const torch::Tensor& tensor, auto type) { return tensor.to(type).requires_grad_(); };
      const torch::Tensor input = torch::randn({size.batch, size.height, size.width, size.channels});
      const torch::Tensor weight =
          torch::randn({size.outputs, size.channels, size.kernel_height, size.kernel_width}).mul_(0.2);
      // On pixels' middles and thirds, so that float32 and float64 choose the same corners.
      const torch::Tensor offset =
          torch::randint(-6, 7, {size.batch, 2 * taps, size.height, size.width}).to(torch::kFloat32) / 3 + 0.1;
      const torch::Tensor mask = torch::rand({size.batch, taps, size.height, size.width});
      const auto case_of = [&](torch::ScalarType type) {
        Case c;
        c.input = leaf(input.clone(), type), c.weight = leaf(weight.clone(), type);
        c.offset = leaf(offset.clone(), type);
        if (with_mask) c.mask = leaf(mask.clone(), type);
        c.by = GetParam();
        return c;
      };
      const torch::Tensor pull = torch::randn({size.batch, size.height, size.width, size.outputs});
      const auto wanted = results_of(case_of(torch::kFloat64), pull);
      for (const Precision precision : {Precision::fp32, Precision::bf16}) {
        Case c = case_of(torch::kFloat32);
        c.precision = precision;
        const auto found = results_of(c, pull);
        const double tolerance = precision == Precision::fp32 ? 1e-5 : 1e-2;
        for (std::size_t i = 0; i < found.size(); ++i) {
          EXPECT_EQ(found[i].sizes(), wanted[i].sizes());
          EXPECT_LT(relative_difference(found[i].to(torch::kFloat64), wanted[i]), tolerance)
              << size.channels << " channels, mask " << with_mask << ", result " << i;
        }
      }
    }
  }
}

// Guards float32 sums in bf16: of operands that bfloat16 holds exactly, with samples on pixels, the result is exact to
// float32's rounding, where a sum kept in bfloat16 loses a hundredth of it.
TEST(DeformConv, FusedBfloat16KeepsFloat32Sums) {
  if (!fused_deform_available(Precision::bf16)) GTEST_SKIP() << "no products of bfloat16";
  const auto held = [](const torch::Tensor& tensor) { return tensor.to(torch::kBFloat16).to(torch::kFloat32); };
  Case c = random_case(5, 5, torch::kFloat32, 0, false);
  c.by = DeformKernels::fused;
  c.input = held(c.input.detach()).requires_grad_();
  c.weight = held(c.weight.detach()).requires_grad_();
  const torch::Tensor pull = held(torch::randn({2, 7, 6, 5}));
  const auto wanted = results_of(c, pull);
  c.precision = Precision::bf16;
  const auto found = results_of(c, pull);
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_LT(relative_difference(found[i], wanted[i]), 1e-6) << i;
}

// Guards "the same bits twice", forward and every gradient.
TEST_P(DeformConvBy, IsDeterministic) {
  const auto once = [] {
    Case c = random_case(5, 5, torch::kFloat32, 1, true);
    c.by = GetParam();
    const torch::Tensor output = c.output();
    auto all = torch::autograd::grad({output}, c.leaves(), {torch::randn_like(output)});
    all.push_back(output);
    return all;
  };
  const auto first = once(), second = once();
  for (std::size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(torch::equal(first[i], second[i]));
}

// Guards bf16's error: within its 8 bits of mantissa of the float32 result, with sums that do not lose more.
TEST_P(DeformConvBy, Bfloat16StaysWithinItsRounding) {
  Case c = random_case(7, 7, torch::kFloat32, 1, true);
  c.by = GetParam();
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
TEST_P(DeformConvBy, LeavesAFrozenInputAlone) {
  Case c = random_case(3, 3, torch::kFloat32, 1, false);
  c.by = GetParam();
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
