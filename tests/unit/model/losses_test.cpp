// Equations 8 and 9 and FiLo's forms of them against the formulas written out in double precision.
#include "model/layers/losses.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.hpp"

namespace filo {
namespace {

// Two stages of two images of 2 x 3 pixels.
constexpr int images = 2, stages = 2, rows = 2, columns = 3;
const std::vector<float> abnormal = {0.9f, 0.2f, 0.5f, 0.1f,  0.8f, 0.3f, 0.6f, 0.4f, 0.7f, 0.25f, 0.05f, 0.95f,
                                     0.3f, 0.3f, 0.1f, 0.15f, 0.6f, 0.2f, 0.2f, 0.1f, 0.9f, 0.35f, 0.45f, 0.55f};
const std::vector<float> mask = {1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0};  // the second image is a normal one

double a(int image, int stage, int row, int column) {
  const int place = ((image * stages + stage) * rows + row) * columns + column;
  return static_cast<double>(abnormal.at(static_cast<std::size_t>(place)));
}
double target(int image, int row, int column) {
  const int place = (image * rows + row) * columns + column;
  return static_cast<double>(mask.at(static_cast<std::size_t>(place)));
}

// Mean over the pixels of all images of -(1 - p)^2 log p, summed over the stages.
double expected_focal(bool release) {
  double sum = 0;
  for (int stage = 0; stage < stages; ++stage)
    for (int image = 0; image < images; ++image)
      for (int row = 0; row < rows; ++row)
        for (int column = 0; column < columns; ++column) {
          const double pixel = a(image, stage, row, column), t = target(image, row, column);
          const double clamped = std::clamp(t, 1e-5, 1 - 1e-5);
          const double p =
              release ? clamped * pixel + (1 - clamped) * (1 - pixel) + 1e-5 : (t > 0.5 ? pixel : 1 - pixel);
          sum += -(1 - p) * (1 - p) * std::log(p) / (images * rows * columns);
        }
  return sum;
}

// Dice(M^a, mask) + Dice(M^n, 1 - mask): one fraction a map, or (release) one a row; its mean; summed over the stages.
double expected_dice(bool release) {
  double sum = 0;
  for (int stage = 0; stage < stages; ++stage)
    for (const bool normal : {false, true}) {
      double fractions = 0;
      int count = 0;
      for (int image = 0; image < images; ++image) {
        double both = 0, map = 0, mask_sum = 0;
        const auto close = [&] {
          fractions += (2 * both + 1) / (map + mask_sum + 1);
          both = map = mask_sum = 0;
          ++count;
        };
        for (int row = 0; row < rows; ++row) {
          for (int column = 0; column < columns; ++column) {
            const double m = normal ? 1 - a(image, stage, row, column) : a(image, stage, row, column);
            const double t = normal ? 1 - target(image, row, column) : target(image, row, column);
            both += m * t;
            map += m;
            mask_sum += t;
          }
          if (release) close();
        }
        if (!release) close();
      }
      sum += 1 - fractions / count;
    }
  return sum;
}

torch::Tensor maps_abnormal() { return torch::tensor(abnormal).view({images, stages, rows, columns}); }
torch::Tensor masks() { return torch::tensor(mask).view({images, rows, columns}); }

const StageLosses paper = {focal_loss, dice_loss};
const StageLosses release = {filo_release_focal_loss, filo_release_dice_loss};

TEST(Losses, LocalLossIsEquationNine) {
  // Guards focal and Dice of the paper, their sum over the stages and mean over the images.
  const LocalLoss loss = local_loss(1 - maps_abnormal(), maps_abnormal(), masks(), paper);
  EXPECT_NEAR(loss.focal.item<double>(), expected_focal(false), 2e-6);
  EXPECT_NEAR(loss.dice.item<double>(), expected_dice(false), 2e-6);
  EXPECT_NEAR(loss.local.item<double>(), expected_focal(false) + expected_dice(false), 2e-6);
}

TEST(Losses, LocalLossOfTheReleaseIsFilosOwn) {
  // Guards FiLo's smoothed targets and its Dice over rows; the two forms differ on this example.
  const LocalLoss loss = local_loss(1 - maps_abnormal(), maps_abnormal(), masks(), release);
  EXPECT_NEAR(loss.focal.item<double>(), expected_focal(true), 2e-6);
  EXPECT_NEAR(loss.dice.item<double>(), expected_dice(true), 2e-6);
  EXPECT_GT(std::abs(expected_dice(true) - expected_dice(false)), 0.01);
  EXPECT_GT(std::abs(expected_focal(true) - expected_focal(false)), 4e-6);  // more than the tolerance
}

TEST(Losses, GradientIsTheFormulasOwn) {
  // Guards the gradient that is taken stage by stage against autograd through the plain sum.
  for (const StageLosses& form : {paper, release}) {
    const torch::Tensor normal = (1 - maps_abnormal()).requires_grad_(),
                        abnormal_map = maps_abnormal().requires_grad_();
    (2.5 * local_loss(normal, abnormal_map, masks(), form).local).backward();
    torch::Tensor plain = torch::zeros({});
    const torch::Tensor n = normal.detach().clone().requires_grad_(),
                        m = abnormal_map.detach().clone().requires_grad_();
    for (int stage = 0; stage < stages; ++stage) {
      const torch::Tensor one_n = n.select(1, stage), one_m = m.select(1, stage);
      plain = plain + form.focal(one_n, one_m, masks()) + form.dice(one_m, masks()) + form.dice(one_n, 1 - masks());
    }
    (2.5 * plain).backward();
    EXPECT_TRUE(torch::allclose(normal.grad(), n.grad(), 1e-5, 1e-7));
    EXPECT_TRUE(torch::allclose(abnormal_map.grad(), m.grad(), 1e-5, 1e-7));
  }
}

TEST(Losses, APixelThatIsSurelyWrongStaysFinite) {
  // Guards log(0), and that a normal image's empty mask divides nothing by zero.
  const torch::Tensor wrong = torch::zeros({1, 1, 2, 2});
  for (const StageLosses& form : {paper, release}) {
    const LocalLoss loss = local_loss(1 - wrong, wrong, torch::ones({1, 2, 2}), form);
    EXPECT_TRUE(std::isfinite(loss.local.item<double>()));
    EXPECT_GT(loss.focal.item<double>(), 10);
    EXPECT_NEAR(form.dice(torch::zeros({1, 2, 2}), torch::zeros({1, 2, 2})).item<double>(), 0, 1e-7);
  }
}

TEST(Losses, GlobalLossIsTheMeanCrossEntropy) {
  // Guards equation 8: -log softmax of the image's own label.
  const torch::Tensor logits = torch::tensor({{1.0f, 3.0f}, {0.5f, -0.5f}, {2.0f, 2.0f}});
  const torch::Tensor labels = torch::tensor({1, 1, 0}, torch::kInt64);
  const double expected = (std::log1p(std::exp(1.0 - 3.0)) + std::log1p(std::exp(0.5 + 0.5)) + std::log(2.0)) / 3;
  EXPECT_NEAR(global_loss(logits, labels).item<double>(), expected, 1e-6);
}

TEST(Losses, AMaskOfAnotherSizeIsNamed) {
  try {
    local_loss(1 - maps_abnormal(), maps_abnormal(), torch::zeros({images, 5, 5}), paper);
    ADD_FAILURE() << "accepted";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), ::testing::AllOf(::testing::HasSubstr("[2, 5, 5]"), ::testing::HasSubstr("[2, 2, 3]")));
  }
}

}  // namespace
}  // namespace filo
