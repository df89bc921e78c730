#include "model/systems/parameters.hpp"

#include <algorithm>
#include <cmath>

#include "base/random.hpp"

namespace filo {

template <typename Draw>
void ParameterInitializer::add(const std::string& name, const std::vector<std::int64_t>& shape, Draw draw) {
  torch::Tensor tensor = torch::empty(shape, torch::kFloat32);
  Random random(seed_, name);
  float* values = tensor.data_ptr<float>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i) values[i] = static_cast<float>(draw(random));
  parameters_[name] = tensor.to(device_).set_requires_grad(true);
}

void ParameterInitializer::normal(const std::string& name, const std::vector<std::int64_t>& shape, double deviation) {
  add(name, shape, [deviation](Random& random) { return deviation * random.normal(); });
}

void ParameterInitializer::uniform(const std::string& name, const std::vector<std::int64_t>& shape,
                                   std::int64_t fan_in) {
  const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
  add(name, shape, [bound](Random& random) { return random.uniform(-bound, bound); });
}

void ParameterInitializer::zero(const std::string& name, const std::vector<std::int64_t>& shape) {
  add(name, shape, [](Random&) { return 0.0; });
}

std::vector<std::string> names_with_prefix(const TensorMap& parameters,
                                           std::initializer_list<std::string_view> prefixes) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : parameters) {
    if (std::ranges::any_of(prefixes, [&, &full = name](std::string_view prefix) { return full.starts_with(prefix); }))
      names.push_back(name);
  }
  return names;
}

std::vector<std::string> names_of(const std::vector<ParameterGroup>& groups) {
  std::vector<std::string> names;
  for (const ParameterGroup& group : groups) names.insert(names.end(), group.names.begin(), group.names.end());
  return names;
}

}  // namespace filo
