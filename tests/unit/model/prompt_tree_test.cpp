#include "model/text/prompt_tree.hpp"

#include <gtest/gtest.h>

#include "base/error.hpp"
#include "model/text/tree_attention.hpp"
#include "tiny_clip.hpp"

namespace filo {
namespace {

constexpr std::int64_t start = 49406, end = 49407;

class Tree : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { clip_ = testing::tiny_clip(); }
  static void TearDownTestSuite() { clip_.reset(); }

  // The same prompts one by one, padded to the whole context.
  static torch::Tensor padded(const std::vector<std::vector<std::int64_t>>& sequences, const torch::Tensor& vectors) {
    const torch::Tensor& table = clip_->text().token_embedding;
    std::vector<torch::Tensor> rows;
    std::vector<std::int64_t> ends;
    for (const auto& sequence : sequences) {
      std::vector<torch::Tensor> row;
      for (const auto element : sequence) row.push_back(element < 0 ? vectors[-1 - element] : table[element]);
      ends.push_back(static_cast<std::int64_t>(row.size()) - 1);
      while (row.size() < 77) row.push_back(table[end]);
      rows.push_back(torch::stack(row));
    }
    return clip_->encode_embeddings(torch::stack(rows), torch::tensor(ends));
  }

  static std::shared_ptr<const ClipModel> clip_;
  // Two sets with vectors of their own, shared prefixes, one prompt a prefix of another's body, a repeated one.
  const std::vector<std::vector<std::int64_t>> sequences_ = {{start, -1, -2, -3, 320, 1000, 269, end},
                                                             {start, -1, -2, -3, 320, 1000, 2000, 269, end},
                                                             {start, -4, -5, -6, 320, 1000, 269, end},
                                                             {start, -4, -5, -6, 77, end},
                                                             {start, 320, 1000, 269, end},
                                                             {start, -1, -2, -3, 320, 1000, 269, end}};
};
std::shared_ptr<const ClipModel> Tree::clip_;

TEST_F(Tree, SharesEveryPrefixOnce) {
  // Guards the size that the speed comes from, and depth = position.
  const PromptTree tree(sequences_);
  EXPECT_EQ(tree.nodes(), 1 + (3 + 2 + 2) + 3 + (3 + 4) + 2 + 4);
  EXPECT_EQ(tree.ends()[0], tree.ends()[5]);
  EXPECT_EQ(tree.depth()[static_cast<std::size_t>(tree.ends()[1])], 8);
  for (std::size_t node = 1; node < static_cast<std::size_t>(tree.nodes()); ++node) {
    ASSERT_LT(tree.parent()[node], static_cast<std::int64_t>(node));
    EXPECT_EQ(tree.depth()[node], tree.depth()[static_cast<std::size_t>(tree.parent()[node])] + 1);
  }
}

TEST_F(Tree, FeaturesAndGradientsEqualThoseOfThePaddedBatch) {
  // Guards the whole method: packed attention, positions, the last layer at end tokens only.
  torch::manual_seed(1);
  const torch::Tensor vectors = torch::randn({6, 32}).set_requires_grad(true);
  const torch::Tensor direction = torch::randn({6, 16});
  const auto gradient = [&](const torch::Tensor& features) {
    return torch::autograd::grad({(features * direction).sum()}, {vectors})[0];
  };
  const torch::Tensor expected = padded(sequences_, vectors);
  const torch::Tensor found = encode_prompt_tree(clip_->text(), PromptTree(sequences_), vectors);
  EXPECT_LT((found - expected).abs().max().item<double>(), 1e-5 * expected.abs().max().item<double>());
  const torch::Tensor expected_gradient = gradient(expected);
  EXPECT_LT((gradient(found) - expected_gradient).abs().max().item<double>(),
            1e-4 * expected_gradient.abs().max().item<double>());
}

TEST_F(Tree, WithoutVectorsEqualsThePaddedTokens) {
  // Guards the frozen path of the fixed templates.
  const std::vector<std::string> prompts = {"a photo of a bottle.", "a photo of a broken bottle."};
  std::vector<std::vector<std::int64_t>> sequences;
  for (const auto& prompt : prompts) {
    auto& sequence = sequences.emplace_back(std::vector<std::int64_t>{start});
    for (const int token : clip_->tokenizer().tokenize(prompt)) sequence.push_back(token);
    sequence.push_back(end);
  }
  const torch::Tensor expected = clip_->encode_text(clip_->tokens(prompts));
  const torch::Tensor found = encode_prompt_tree(clip_->text(), PromptTree(sequences), {});
  EXPECT_FALSE(found.requires_grad());
  EXPECT_LT((found - expected).abs().max().item<double>(), 1e-5 * expected.abs().max().item<double>());
}

TEST_F(Tree, AttentionOverPathsEqualsMaskedDenseAttention) {
  // Guards the CPU kernel and its gradients against the form that other devices run.
  torch::manual_seed(2);
  const PromptTree tree(sequences_);
  const auto paths = std::make_shared<const AncestorPaths>(tree.parent(), tree.ends());
  const torch::Tensor query = torch::randn({6, 40}).set_requires_grad(true);
  const torch::Tensor key_value = torch::randn({tree.nodes(), 80}).set_requires_grad(true);
  const torch::Tensor direction = torch::randn({6, 40});
  const auto split = [](const torch::Tensor& x) { return x.view({x.size(0), 5, 8}).transpose(0, 1); };
  const torch::Tensor scores =
      torch::matmul(split(query), split(key_value.narrow(1, 0, 40)).transpose(1, 2)) / std::sqrt(8.0) +
      paths->mask(tree.nodes(), torch::kCPU);
  const torch::Tensor expected =
      torch::matmul(torch::softmax(scores, -1), split(key_value.narrow(1, 40, 40))).transpose(0, 1).reshape({6, 40});
  const torch::Tensor found = tree_attention(query, key_value, paths, 5);
  EXPECT_TRUE(torch::allclose(found, expected, 1e-5, 1e-6));
  const auto found_gradients = torch::autograd::grad({(found * direction).sum()}, {query, key_value});
  const auto expected_gradients = torch::autograd::grad({(expected * direction).sum()}, {query, key_value});
  EXPECT_TRUE(torch::allclose(found_gradients[0], expected_gradients[0], 1e-4, 1e-6));
  EXPECT_TRUE(torch::allclose(found_gradients[1], expected_gradients[1], 1e-4, 1e-6));
}

TEST_F(Tree, UnknownElementsAreErrors) {
  // Guards against reading outside the tables.
  const torch::Tensor vectors = torch::zeros({2, 32});
  EXPECT_THROW(encode_prompt_tree(clip_->text(), PromptTree({{start, -3, end}}), vectors), UsageError);
  EXPECT_THROW(encode_prompt_tree(clip_->text(), PromptTree({{start, 49408, end}}), vectors), UsageError);
  EXPECT_THROW(encode_prompt_tree(clip_->text(), PromptTree({std::vector<std::int64_t>(78, start)}), vectors),
               UsageError);
  const std::vector<std::vector<std::int64_t>> empty_sequence(1);
  EXPECT_THROW(PromptTree{empty_sequence}, UsageError);
}

}  // namespace
}  // namespace filo
