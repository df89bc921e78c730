#include "base/error.hpp"
#include "checkpoint/safetensors.hpp"
#include "model/clip/clip.hpp"
#include "model/tensors.hpp"

namespace filo {
namespace {

// Causal self-attention of [N, L, D] (normalised) tokens, through the output projection.
torch::Tensor causal_attention(const torch::Tensor& x, const LayerWeights& layer, int heads) {
  const auto count = x.size(0), length = x.size(1), width = x.size(2);
  const auto qkv =
      layer.qkv(x).view({count, length, 3, heads, width / heads}).permute({2, 0, 3, 1, 4});  // [3, N, heads, L, d]
  const auto mixed = at::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], {}, 0.0, /*is_causal=*/true);
  return layer.out(mixed.transpose(1, 2).reshape({count, length, width}));
}

}  // namespace

torch::Tensor ClipModel::encode_embeddings(const torch::Tensor& embeddings, const torch::Tensor& end_index) const {
  const TowerConfig& tower = text_.config;
  expect_shape(embeddings, {-1, -1, tower.width}, "clip: text embeddings");
  expect_shape(end_index, {embeddings.size(0)}, "clip: index of the end tokens");
  const auto length = embeddings.size(1);
  if (length < 1 || length > config_.context_length) {
    throw UsageError("clip: text embeddings", "shape " + shape_to_string(embeddings.sizes()) + ", but the context is " +
                                                  std::to_string(config_.context_length) + " tokens");
  }
  torch::Tensor x = embeddings + text_.position_embedding.slice(0, 0, length);
  for (const LayerWeights& layer : text_.layers) {
    x = x + causal_attention(layer_norm(x, layer.ln1_weight, layer.ln1_bias, tower.layer_norm_eps), layer, tower.heads);
    const auto hidden = layer.fc1(layer_norm(x, layer.ln2_weight, layer.ln2_bias, tower.layer_norm_eps));
    x = x + layer.fc2(activate(hidden, tower.activation));
  }
  const auto rows = torch::arange(x.size(0), end_index.options());
  const auto ends = x.index({rows, end_index});
  return torch::linear(layer_norm(ends, text_.ln_final_weight, text_.ln_final_bias, tower.layer_norm_eps),
                       text_.projection);
}

torch::Tensor ClipModel::encode_text(const torch::Tensor& tokens) const {
  expect_shape(tokens, {-1, -1}, "clip: tokens");
  if (tokens.scalar_type() != torch::kInt64) throw UsageError("clip: tokens", "expected int64");
  if (tokens.numel() > 0 &&
      (tokens.min().item<std::int64_t>() < 0 || tokens.max().item<std::int64_t>() >= config_.vocabulary)) {
    throw UsageError("clip: tokens", "an id is outside the vocabulary of " + std::to_string(config_.vocabulary));
  }
  const auto is_end = tokens.eq(tokenizer_->end_token());
  if (!is_end.any(1).all().item<bool>()) throw UsageError("clip: tokens", "a row has no end token");
  const auto end_index = is_end.to(torch::kInt32).argmax(1);  // the first of equal maxima
  return encode_embeddings(text_.token_embedding.index({tokens}), end_index);
}

torch::Tensor ClipModel::tokens(const std::vector<std::string>& prompts) const {
  const auto length = config_.context_length;
  const auto tokens = torch::empty({static_cast<std::int64_t>(prompts.size()), length}, torch::kInt64);
  auto* row = tokens.data_ptr<std::int64_t>();
  for (const std::string& prompt : prompts) {
    const auto encoded = tokenizer_->encode(prompt, length);
    row = std::copy(encoded.begin(), encoded.end(), row);
  }
  return tokens.to(device_);
}

}  // namespace filo
