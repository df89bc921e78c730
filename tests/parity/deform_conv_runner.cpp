// Runs deform_conv2d on the tensors of a file that Python's torch.save wrote, and writes output and gradients for
// torch.load. usage: deform_conv_runner IN OUT; IN: [input, weight, offset, pull] or with mask as the fifth; all
// gradients are taken.
#include <fstream>
#include <iostream>
#include <iterator>

#include "model/layers/deform_conv.hpp"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: deform_conv_runner IN OUT\n";
    return 2;
  }
  std::ifstream in(argv[1], std::ios::binary);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(in)), {});
  const torch::IValue list = torch::pickle_load(bytes);
  std::vector<torch::Tensor> tensors;
  for (const torch::IValue& value : list.toListRef()) tensors.push_back(value.toTensor());
  const torch::Tensor pull = tensors.at(3);
  std::vector<torch::Tensor> leaves = {tensors[0], tensors[1], tensors[2]};
  if (tensors.size() > 4) leaves.push_back(tensors[4]);
  for (torch::Tensor& leaf : leaves) leaf.requires_grad_();
  const std::optional<torch::Tensor> mask = leaves.size() > 3 ? std::optional(leaves[3]) : std::nullopt;
  const torch::Tensor output = filo::deform_conv2d(leaves[0], leaves[1], leaves[2], mask, filo::Precision::fp32);
  std::vector<torch::IValue> results = {output.detach()};  // a tuple: torch.load's safe mode refuses typed lists
  for (const torch::Tensor& gradient : torch::autograd::grad({output}, leaves, {pull})) results.push_back(gradient);
  const std::vector<char> saved = torch::pickle_save(c10::ivalue::Tuple::create(std::move(results)));
  std::ofstream(argv[2], std::ios::binary).write(saved.data(), static_cast<std::streamsize>(saved.size()));
  return 0;
}
