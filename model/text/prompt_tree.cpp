#include "model/text/prompt_tree.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/error.hpp"
#include "model/text/tree_attention.hpp"

namespace filo {
namespace {

torch::Tensor index_tensor(const std::vector<std::int64_t>& values, torch::Device device) {
  return torch::tensor(values, torch::kInt64).to(device);
}

// The nodes' embeddings with positions, [nodes, D].
torch::Tensor embed(const TextTower& tower, const PromptTree& tree, const torch::Tensor& vectors) {
  const auto device = tower.token_embedding.device();
  const std::int64_t rows = vectors.defined() ? vectors.size(0) : 0;
  const std::int64_t vocabulary = tower.token_embedding.size(0);
  const std::int64_t context = tower.position_embedding.size(0);
  std::vector<std::int64_t> tokens, source(static_cast<std::size_t>(tree.nodes()));
  std::map<std::int64_t, std::int64_t> row_of_token;
  for (std::size_t node = 0; node < source.size(); ++node) {
    const std::int64_t element = tree.element()[node];
    if (element >= vocabulary || -1 - element >= rows || tree.depth()[node] >= context) {
      throw UsageError("prompt tree", "element " + std::to_string(element) + " at place " +
                                          std::to_string(tree.depth()[node]) + ", expected a token below " +
                                          std::to_string(vocabulary) + ", or one of " + std::to_string(rows) +
                                          " vectors, at a place below " + std::to_string(context));
    }
    if (element < 0) {
      source[node] = -1 - element;
      continue;
    }
    const auto [found, added] = row_of_token.try_emplace(element, static_cast<std::int64_t>(tokens.size()));
    if (added) tokens.push_back(element);
    source[node] = rows + found->second;
  }
  torch::Tensor table = tower.token_embedding.index_select(0, index_tensor(tokens, device));
  if (rows > 0) table = torch::cat({vectors, table});
  return table.index_select(0, index_tensor(source, device)) +
         tower.position_embedding.index_select(0, index_tensor(tree.depth(), device));
}

// x sigmoid(1.702 x). Keeps x alone for its backward pass, where autograd would keep three tensors of the MLP's width.
class QuickGelu : public torch::autograd::Function<QuickGelu> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x) {
    context->save_for_backward({x});
    return (x * slope).sigmoid_().mul_(x);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const torch::Tensor x = context->get_saved_variables()[0];
    const torch::Tensor gate = (x * slope).sigmoid_();
    // gate (1 + 1.702 x (1 - gate)) grad
    torch::Tensor derivative = (1 - gate).mul_(x).mul_(slope).add_(1).mul_(gate);
    return {derivative.mul_(grads[0])};
  }

 private:
  static constexpr double slope = 1.702;
};

torch::Tensor activate_with_little_memory(const torch::Tensor& x, Activation activation) {
  return activation == Activation::quick_gelu ? QuickGelu::apply(x) : activate(x, activation);
}

using Piece = std::function<torch::Tensor(const torch::Tensor&)>;

class PieceHolder : public torch::CustomClassHolder {
 public:
  explicit PieceHolder(Piece held) : piece(std::move(held)) {}
  Piece piece;
};

// A piece of the network that keeps its input alone and is run once more on the way back.
class Recomputed : public torch::autograd::Function<Recomputed> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x, Piece piece) {
    const torch::Tensor y = piece(x);
    context->save_for_backward({x});
    context->saved_data["piece"] = c10::IValue::make_capsule(c10::make_intrusive<PieceHolder>(std::move(piece)));
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto holder = context->saved_data["piece"].toCapsule();
    const torch::Tensor x = context->get_saved_variables()[0].detach().requires_grad_();
    const c10::AutoGradMode record(true);
    const torch::Tensor y = c10::static_intrusive_pointer_cast<PieceHolder>(holder)->piece(x);
    return {torch::autograd::grad({y}, {x}, {gradients[0]})[0], torch::Tensor()};
  }
};

torch::Tensor recomputed(const torch::Tensor& x, Piece piece) {
  if (!c10::GradMode::is_enabled() || !x.requires_grad()) return piece(x);
  return Recomputed::apply(x, std::move(piece));
}

}  // namespace

PromptTree::PromptTree(const std::vector<std::vector<std::int64_t>>& sequences) {
  std::vector<std::map<std::int64_t, std::int64_t>> children;
  std::map<std::int64_t, std::int64_t> roots;
  for (const auto& sequence : sequences) {
    if (sequence.empty()) throw UsageError("prompt tree", "an empty sequence, expected start and end token");
    std::int64_t node = -1;
    for (const std::int64_t element : sequence) {
      auto& siblings = node < 0 ? roots : children[static_cast<std::size_t>(node)];
      const auto [found, added] = siblings.try_emplace(element, nodes());
      const std::int64_t child = found->second;
      if (added) {
        element_.push_back(element);
        depth_.push_back(node < 0 ? 0 : depth_[static_cast<std::size_t>(node)] + 1);
        parent_.push_back(node);
        children.emplace_back();
      }
      node = child;
    }
    ends_.push_back(node);
  }
}

torch::Tensor encode_prompt_tree(const TextTower& tower, const PromptTree& tree, const torch::Tensor& vectors,
                                 Precision precision) {
  const auto device = tower.token_embedding.device();
  const std::int64_t width = tower.config.width;
  const double eps = tower.config.layer_norm_eps;
  const int heads = tower.config.heads;
  const Activation activation = tower.config.activation;
  const auto all_nodes = std::make_shared<const AncestorPaths>(tree.parent());
  const auto end_nodes = std::make_shared<const AncestorPaths>(tree.parent(), tree.ends());
  const torch::Tensor ends = index_tensor(tree.ends(), device);

  torch::Tensor x = embed(tower, tree, vectors);
  for (std::size_t i = 0; i < tower.layers.size(); ++i) {
    const LayerWeights& layer = tower.layers[i];
    const bool last = i + 1 == tower.layers.size();
    const auto qkv_of = [layer, eps, precision](const torch::Tensor& tokens) {
      return layer.qkv(layer_norm(tokens, layer.ln1_weight, layer.ln1_bias, eps), precision);
    };
    torch::Tensor mixed;
    if (last) {
      const torch::Tensor qkv = qkv_of(x);
      mixed = tree_attention(qkv.narrow(1, 0, width).index_select(0, ends), qkv.narrow(1, width, 2 * width), end_nodes,
                             heads);
      x = x.index_select(0, ends);
    } else {
      mixed = recomputed(x, [qkv_of, heads, all_nodes, width](const torch::Tensor& tokens) {
        const torch::Tensor qkv = qkv_of(tokens);
        return tree_attention(qkv.narrow(1, 0, width), qkv.narrow(1, width, 2 * width), all_nodes, heads);
      });
    }
    x = x + layer.out(mixed, precision);
    const torch::Tensor hidden = recomputed(x, [layer, activation, eps, precision](const torch::Tensor& tokens) {
      return activate_with_little_memory(
          layer.fc1(layer_norm(tokens, layer.ln2_weight, layer.ln2_bias, eps), precision), activation);
    });
    x = x + layer.fc2(hidden, precision);
  }
  if (tower.layers.empty()) x = x.index_select(0, ends);
  return torch::linear(layer_norm(x, tower.ln_final_weight, tower.ln_final_bias, eps), tower.projection);
}

}  // namespace filo
