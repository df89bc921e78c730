// Learnable parameters of a system: leaves by name, and their first values.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "model/tensors.hpp"

namespace filo {

// Parameters that learn at one rate.
struct ParameterGroup {
  std::vector<std::string> names;
  double learning_rate = 0;
};

// Of all groups, one after another.
std::vector<std::string> names_of(const std::vector<ParameterGroup>& groups);

// Makes parameters one by one: leaves with requires_grad, float32. Values are a pure function of seed, name and shape,
// whatever the machine: each tensor draws from a stream of its own name.
class ParameterInitializer {
 public:
  ParameterInitializer(std::uint64_t seed, torch::Device device) : seed_(seed), device_(device) {}

  void normal(const std::string& name, const std::vector<std::int64_t>& shape, double deviation);
  // Uniform in +-1/sqrt(fan in): PyTorch's default of linear layers and convolutions, biases too.
  void uniform(const std::string& name, const std::vector<std::int64_t>& shape, std::int64_t fan_in);
  void zero(const std::string& name, const std::vector<std::int64_t>& shape);

  TensorMap take() { return std::move(parameters_); }

 private:
  template <typename Draw>
  void add(const std::string& name, const std::vector<std::int64_t>& shape, Draw draw);

  std::uint64_t seed_;
  torch::Device device_;
  TensorMap parameters_;
};

// The names that begin with one of `prefixes`, in order.
std::vector<std::string> names_with_prefix(const TensorMap& parameters,
                                           std::initializer_list<std::string_view> prefixes);

}  // namespace filo
