#include "model/summed_conv.hpp"

#include <algorithm>
#include <sstream>

#include "base/error.hpp"

namespace filo {
namespace {

void check(const torch::Tensor& input, const std::vector<torch::Tensor>& weights,
           const std::vector<torch::Tensor>& biases) {
  const auto fail = [](const std::string& name, const torch::Tensor& found, const std::string& expected) {
    std::ostringstream text;
    text << "found " << found.sizes() << ' ' << found.scalar_type() << ", expected " << expected;
    throw Error("summed_conv2d: " + name, text.str());
  };
  const auto type = input.scalar_type();
  if (input.dim() != 4 || input.numel() == 0 || (type != torch::kFloat32 && type != torch::kFloat64)) {
    fail("input", input, "[B, H, W, C_in] float32 or float64, not empty");
  }
  if (weights.empty()) throw Error("summed_conv2d: weights", "found none, expected at least one");
  if (!biases.empty() && biases.size() != weights.size()) {
    throw Error("summed_conv2d: biases",
                "found " + std::to_string(biases.size()) + ", expected none or " + std::to_string(weights.size()));
  }
  const std::string suffix = std::string(" ") + torch::toString(type);
  const std::int64_t outputs = weights[0].dim() == 4 ? weights[0].size(0) : 0;
  for (std::size_t j = 0; j < weights.size(); ++j) {
    const torch::Tensor& weight = weights[j];
    if (weight.dim() != 4 || weight.size(0) != outputs || outputs == 0 || weight.size(1) != input.size(3) ||
        weight.size(2) % 2 == 0 || weight.size(3) % 2 == 0 || weight.scalar_type() != type) {
      fail("weights[" + std::to_string(j) + "]", weight,
           "[" + (outputs ? std::to_string(outputs) : std::string("C_out")) + ", " + std::to_string(input.size(3)) +
               ", odd, odd]" + suffix);
    }
    if (!biases.empty() && (biases[j].dim() != 1 || biases[j].size(0) != outputs || biases[j].scalar_type() != type)) {
      fail("biases[" + std::to_string(j) + "]", biases[j], "[" + std::to_string(outputs) + "]" + suffix);
    }
  }
}

}  // namespace

torch::Tensor summed_conv2d(const torch::Tensor& input, const std::vector<torch::Tensor>& weights,
                            const std::vector<torch::Tensor>& biases) {
  check(input, weights, biases);
  std::int64_t height = 1, width = 1;
  for (const auto& weight : weights) {
    height = std::max(height, weight.size(2));
    width = std::max(width, weight.size(3));
  }
  torch::Tensor merged;
  for (const auto& weight : weights) {
    const std::int64_t y = (height - weight.size(2)) / 2, x = (width - weight.size(3)) / 2;
    const torch::Tensor padded = torch::constant_pad_nd(weight, {x, x, y, y});
    merged = merged.defined() ? merged + padded : padded;
  }
  torch::Tensor bias;
  for (const auto& b : biases) bias = bias.defined() ? bias + b : b;
  const torch::Tensor output = torch::conv2d(input.permute({0, 3, 1, 2}), merged, bias, 1, {height / 2, width / 2});
  return output.permute({0, 2, 3, 1}).contiguous();
}

}  // namespace filo
