// Parity with transformers is in tests/parity/{text,vision}.py; here is what needs no other implementation.
#include "model/clip/clip.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.hpp"
#include "base/files.hpp"
#include "model/kernels/tower_rows.hpp"
#include "model/tensors.hpp"
#include "tests/unit/model/clip_folder.hpp"

namespace filo {
namespace {

using testing::HasSubstr;

class ClipTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { folder_ = new ClipFolder(ClipFolder::small_config()); }
  static void TearDownTestSuite() { delete folder_; }
  static std::shared_ptr<const ClipModel> model() { return ClipModel::load(folder_->path()); }
  inline static ClipFolder* folder_ = nullptr;
};

// Guards: stages are reused by digest, so equal seeds must give equal files, and other seeds other weights.
TEST_F(ClipTest, RandomWeightsFollowTheSeedAlone) {
  const std::string first = read_file(folder_->path() / "model.safetensors");
  const ClipFolder other(ClipFolder::small_config(), 2);
  EXPECT_NE(first, read_file(other.path() / "model.safetensors"));
  write_random_clip(other.path(), ClipFolder::small_config(), 1,
                    FILO_SOURCE_DIR "/.deps/bpe/bpe_simple_vocab_16e6.txt.gz");
  EXPECT_EQ(first, read_file(other.path() / "model.safetensors"));
}

// Guards: a folder of something else is never replaced by a model.
TEST_F(ClipTest, InitDoesNotOverwriteAFolderThatIsNotAModel) {
  const auto folder = folder_->path() / "precious";
  std::filesystem::create_directories(folder);
  write_file_atomically(folder / "thesis.txt", std::string_view("years of work"));
  EXPECT_THROW(write_random_clip(folder, ClipFolder::small_config(), 1,
                                 FILO_SOURCE_DIR "/.deps/bpe/bpe_simple_vocab_16e6.txt.gz"),
               UsageError);
  EXPECT_EQ(read_file(folder / "thesis.txt"), "years of work");
}

// Guards: the same bits twice on the same machine and thread count; a batch equals its images one by one.
TEST_F(ClipTest, FeaturesAreReproducible) {
  const auto clip = model();
  torch::manual_seed(1);
  const auto pixels = torch::randn({3, 3, 30, 30});
  const VisionOptions options{{2, 4}, 3};
  const auto first = clip->encode_images(pixels, options), second = clip->encode_images(pixels, options);
  EXPECT_TRUE(torch::equal(first.global, second.global));
  EXPECT_TRUE(torch::equal(first.vv.at(4), second.vv.at(4)));
  EXPECT_EQ(first.vv.count(2), 0u);
  const auto alone = clip->encode_images(pixels.slice(0, 1, 2), options);
  EXPECT_TRUE(torch::allclose(alone.qkv.at(4)[0], first.qkv.at(4)[1], 1e-4, 1e-5));
}

// Largest difference of two tensors, of the second one's largest value.
double difference(const torch::Tensor& found, const torch::Tensor& expected) {
  return ((found - expected).abs().max() / expected.abs().max()).item<double>();
}

// Guards: the tower's own exp() and quick_gelu() are the functions, at every place of a row that no vector divides, in
// float32 and rounded to bfloat16, and for what overflows.
TEST(TowerRows, AreTheFunctions) {
  const auto x = torch::cat({torch::linspace(-30, 20, 1003), torch::tensor({-1e4F, 150.0F})}).contiguous();
  const auto count = x.numel();
  const auto exact = x.to(torch::kFloat64);
  const auto near = [](const torch::Tensor& found, const torch::Tensor& expected, double tolerance) {
    return torch::allclose(found.to(torch::kFloat64), expected, tolerance, 1e-30);
  };
  const auto shifted = x.slice(0, 0, count - 1).contiguous();  // 20 is its largest
  const auto powers = (shifted - 20).to(torch::kFloat64).exp();
  auto out = torch::empty_like(shifted);
  const float sum =
      kernels::tower_rows<float>().exponentials(shifted.const_data_ptr<float>(), count - 1, out.data_ptr<float>());
  EXPECT_TRUE(near(out, powers, 3e-7));
  EXPECT_NEAR(sum, powers.sum().item<double>(), 1e-6 * sum);
  auto half = torch::empty_like(shifted, torch::kBFloat16);
  kernels::tower_rows<kernels::Bfloat16>().exponentials(shifted.const_data_ptr<float>(), count - 1,
                                                        static_cast<kernels::Bfloat16*>(half.data_ptr()));
  EXPECT_TRUE(torch::equal(half, out.to(torch::kBFloat16)));

  auto gelu = x.clone();
  kernels::tower_rows<float>().quick_gelu(gelu.data_ptr<float>(), count);
  EXPECT_TRUE(near(gelu, exact * torch::sigmoid(1.702 * exact), 5e-6));  // of it 1.702 x, rounded, up to 4e-6
  auto rounded = x.to(torch::kBFloat16);
  const auto expected = rounded.to(torch::kFloat64) * torch::sigmoid(1.702 * rounded.to(torch::kFloat64));
  kernels::tower_rows<kernels::Bfloat16>().quick_gelu(static_cast<kernels::Bfloat16*>(rounded.data_ptr()), count);
  EXPECT_TRUE(near(rounded, expected, 4e-3));
}

// Guards: whoever computes products and attention, features are the same but for rounding; in bfloat16 near by, and
// with the same bits each time. 26 tokens and 5 x 5 patches, a batch of 2, no size that vectors divide.
TEST_F(ClipTest, ImageFeaturesDependLittleOnWhoMultiplies) {
  if (!at::hasMKLDNN()) GTEST_SKIP() << "this LibTorch comes without oneDNN";
  const auto libtorch = ClipModel::load(folder_->path(), torch::kCPU, ClipTowers::both, Products::libtorch);
  const auto onednn = ClipModel::load(folder_->path(), torch::kCPU, ClipTowers::both, Products::onednn);
  torch::manual_seed(4);
  const auto pixels = torch::randn({2, 3, 30, 30});
  VisionOptions options{{2, 4}, 3};
  const auto expected = libtorch->encode_images(pixels, options);
  const auto check = [&](const ClipModel& clip, double tolerance) {
    const auto found = clip.encode_images(pixels, options);
    EXPECT_LT(difference(found.global, expected.global), tolerance);
    EXPECT_LT(difference(found.qkv.at(4), expected.qkv.at(4)), tolerance);
    EXPECT_LT(difference(found.vv.at(4), expected.vv.at(4)), tolerance);
    EXPECT_TRUE(torch::equal(clip.encode_images(pixels, options).vv.at(4), found.vv.at(4)));
  };
  check(*onednn, 1e-5);
  options.precision = Precision::bf16;
  check(*onednn, 2e-2);
  check(*libtorch, 2e-2);
}

// Guards: likewise the text tower's features and their gradient.
TEST_F(ClipTest, TextFeaturesDependLittleOnWhoMultiplies) {
  if (!at::hasMKLDNN()) GTEST_SKIP() << "this LibTorch comes without oneDNN";
  torch::manual_seed(5);
  const auto embeddings = torch::randn({2, 9, 24}), direction = torch::randn({2, 20});
  const auto run = [&](Products by) {
    const auto clip = ClipModel::load(folder_->path(), torch::kCPU, ClipTowers::text, by, by);
    const auto x = embeddings.clone().requires_grad_();
    const auto features = clip->encode_embeddings(x, torch::tensor({8, 5}));
    return std::pair(features.detach(), torch::autograd::grad({features}, {x}, {direction})[0]);
  };
  const auto expected = run(Products::libtorch), found = run(Products::onednn);
  EXPECT_LT(difference(found.first, expected.first), 1e-5);
  EXPECT_LT(difference(found.second, expected.second), 1e-5);
}

// Guards: learnable vectors get their gradient through the frozen text tower, as finite differences say.
TEST_F(ClipTest, TextTowerIsDifferentiable) {
  const auto clip = model();
  const auto tokens = clip->tokens({"a flawless bottle.", "damaged"});
  EXPECT_FALSE(clip->encode_text(tokens).requires_grad());
  const auto ends = tokens.eq(clip->tokenizer().end_token()).to(torch::kInt32).argmax(1);
  torch::manual_seed(2);
  const auto embeddings = (0.5 * torch::randn({2, 77, 24})).requires_grad_();
  const auto direction = torch::randn({2, 20}, torch::TensorOptions().dtype(torch::kFloat32));
  const auto value = [&](const torch::Tensor& x) { return (clip->encode_embeddings(x, ends) * direction).sum(); };
  value(embeddings).backward();
  const auto& gradient = embeddings.grad();
  ASSERT_TRUE(gradient.defined());
  EXPECT_EQ(gradient[0].slice(0, 20).abs().max().item<float>(), 0.0F);  // causal: nothing after the end token counts
  const torch::NoGradGuard no_grad;
  const auto step = torch::randn_like(embeddings) * 5e-3;
  const double expected = (value(embeddings + step) - value(embeddings - step)).item<double>() / 2;
  EXPECT_NEAR((gradient * step).sum().item<double>(), expected, 1e-2 * std::abs(expected) + 1e-4);
}

// Guards: what init-clip's image tower is for: patches that look different stay different at every depth, equal ones
// equal.
TEST_F(ClipTest, RandomTowerKeepsLocalAppearance) {
  const ClipFolder folder(
      ClipConfig{{64, 12, 4, 128, Activation::quick_gelu, 1e-5}, ClipFolder::small_config().text, 7, 56, 77, 49408, 20},
      3);
  const auto clip = ClipModel::load(folder.path());
  auto pixels = torch::zeros({1, 3, 56, 56});
  pixels.slice(2, 21, 28).slice(3, 21, 28).fill_(1.5);  // patch (3, 3) of 8 x 8
  const auto features = clip->encode_images(pixels, {{12}, 4});
  for (const auto& tokens : {features.qkv.at(12)[0], features.vv.at(12)[0]}) {
    const auto unit = tokens / tokens.norm(2, -1, true);
    const auto similarity = unit.mv(unit[0]);
    const float odd = similarity[3 * 8 + 3].item<float>();
    similarity[3 * 8 + 3].fill_(1);
    EXPECT_LT(odd, similarity.min().item<float>() - 0.1F);
  }
}

// Guards: wrong tensors are named with the shape found and the shape expected.
TEST_F(ClipTest, WrongShapeIsNamed) {
  const auto path = folder_->path() / "model.safetensors";
  const std::string good = read_file(path);
  TensorMap tensors = load_tensors(path);
  tensors["visual_projection.weight"] = torch::zeros({20, 31});
  save_tensors(path, tensors);
  try {
    model();
    ADD_FAILURE() << "loaded";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(),
                testing::AllOf(HasSubstr("visual_projection.weight"), HasSubstr("[20, 31]"), HasSubstr("[20, 32]")));
  }
  write_file_atomically(path, good);
}

}  // namespace
}  // namespace filo
