// The prompt tree: many prompts through the causal text encoder at the cost of their distinct prefixes.
//
// The encoder is causal, so prompts that share a prefix share its hidden states. All sequences become one trie, run as
// one packed sequence of nodes: position = depth, a node attends to its ancestors and itself. The last layer runs
// queries and MLP at the end nodes only. Features equal those of the padded batch.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "model/clip/clip.hpp"
#include "settings/train.hpp"

namespace filo {

// The trie. Immutable.
class PromptTree {
 public:
  // One sequence a prompt, start to end token: an element >= 0 is a token id, -1 - r is row r of the learnable vectors.
  // Equal prefixes become one node; so images with vectors of their own (CoCoOp) share only the start token, and sets
  // with the same vectors (CoOp) share them over classes.
  explicit PromptTree(const std::vector<std::vector<std::int64_t>>& sequences);

  std::int64_t nodes() const { return static_cast<std::int64_t>(element_.size()); }
  const std::vector<std::int64_t>& element() const { return element_; }  // of each node
  const std::vector<std::int64_t>& depth() const { return depth_; }      // of each node; 0: start token
  const std::vector<std::int64_t>& parent() const { return parent_; }    // of each node; -1: none; parent < child
  const std::vector<std::int64_t>& ends() const { return ends_; }        // of each sequence: its last node

 private:
  std::vector<std::int64_t> element_, depth_, parent_, ends_;
};

// Features of all sequences, [sequences, C], as ClipModel::encode_embeddings gives them (not normalised). `vectors` [R,
// D] holds the learnable rows (undefined: none are used). Differentiable in `vectors`; no gradient of a weight is
// computed. bf16: the linear layers run in bfloat16, the residual stream stays float32. Throws UsageError when a
// sequence is longer than the context or names a row or token that is not there.
torch::Tensor encode_prompt_tree(const TextTower& tower, const PromptTree& tree, const torch::Tensor& vectors,
                                 Precision precision = Precision::fp32);

}  // namespace filo
