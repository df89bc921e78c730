// Attention in which each node of a forest sees its ancestors and itself.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace filo {

// The nodes that each query sees, from the root down to itself. Immutable.
class AncestorPaths {
 public:
  // parent[i] < i, or -1 for a root. Every node is a query.
  explicit AncestorPaths(const std::vector<std::int64_t>& parent);
  // Only `queries` are, in this order.
  AncestorPaths(const std::vector<std::int64_t>& parent, const std::vector<std::int64_t>& queries);

  std::int64_t queries() const { return static_cast<std::int64_t>(start_.size()) - 1; }
  // Query q sees nodes()[start()[q]] .. nodes()[start()[q + 1] - 1].
  const std::vector<std::int64_t>& start() const { return start_; }
  const std::vector<std::int64_t>& nodes() const { return nodes_; }
  // 0 where query q sees node n, -infinity elsewhere: [queries, node_count] float32.
  torch::Tensor mask(std::int64_t node_count, torch::Device device) const;

 private:
  std::vector<std::int64_t> start_, nodes_;
};

// query [Q, D], key_value [N, 2 D] (keys first) float32, D = heads x head width -> [Q, D]: for each head
// softmax(q K^T / sqrt(head width)) V over the path. Differentiable in both. On the CPU the cost is the paths' total
// length and results do not depend on the number of threads; elsewhere it is masked dense attention.
torch::Tensor tree_attention(const torch::Tensor& query, const torch::Tensor& key_value,
                             std::shared_ptr<const AncestorPaths> paths, int heads);

}  // namespace filo
