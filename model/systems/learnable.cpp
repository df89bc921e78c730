#include "model/systems/learnable.hpp"

#include <algorithm>
#include <cmath>

#include "base/random.hpp"

namespace filo {
namespace {

constexpr double vectors_deviation = 0.02;

class Initializer {
 public:
  Initializer(LearnableParameters& parameters, std::uint64_t seed, torch::Device device)
      : parameters_(parameters), seed_(seed), device_(device) {}

  void normal(const std::string& name, ParameterGroup group, const std::vector<std::int64_t>& shape, double deviation) {
    add(name, group, shape, [deviation](Random& random) { return deviation * random.normal(); });
  }
  void uniform(const std::string& name, ParameterGroup group, const std::vector<std::int64_t>& shape,
               std::int64_t fan_in) {
    const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
    add(name, group, shape, [bound](Random& random) { return random.uniform(-bound, bound); });
  }
  void zero(const std::string& name, ParameterGroup group, const std::vector<std::int64_t>& shape) {
    add(name, group, shape, [](Random&) { return 0.0; });
  }

 private:
  template <typename Draw>
  void add(const std::string& name, ParameterGroup group, const std::vector<std::int64_t>& shape, Draw draw) {
    torch::Tensor tensor = torch::empty(shape, torch::kFloat32);
    Random random(seed_, name);
    float* values = tensor.data_ptr<float>();
    for (std::int64_t i = 0; i < tensor.numel(); ++i) values[i] = static_cast<float>(draw(random));
    parameters_.tensors[name] = tensor.to(device_).set_requires_grad(true);
    parameters_.groups[name] = group;
  }

  LearnableParameters& parameters_;
  std::uint64_t seed_;
  torch::Device device_;
};

void add_prompts(Initializer& add, const ParameterNames& names, const PromptSettings& settings,
                 const ClipConfig& clip) {
  if (!settings.learnable_template || settings.method == PromptMethod::none) return;
  const auto group = ParameterGroup::prompts;
  const std::int64_t width = clip.text.width, image = clip.projection, hidden = std::max(1, clip.projection / 16);
  for (const bool abnormal : {false, true}) {
    add.normal(names.vectors(abnormal), group, {settings.vectors, width}, vectors_deviation);
    if (settings.method != PromptMethod::cocoop) continue;
    add.uniform(names.meta_net(abnormal, 1, "weight"), group, {hidden, image}, image);
    add.uniform(names.meta_net(abnormal, 1, "bias"), group, {hidden}, image);
    add.uniform(names.meta_net(abnormal, 2, "weight"), group, {width, hidden}, hidden);
    add.uniform(names.meta_net(abnormal, 2, "bias"), group, {width}, hidden);
  }
}

void add_kernel(Initializer& add, const ParameterNames& names, const ModelSettings& settings, const ClipConfig& clip,
                std::size_t stage, std::size_t j) {
  const auto group = ParameterGroup::mdci;
  const auto name = [&](const char* what) { return names.kernel(stage, j, what); };
  const std::int64_t height = settings.mdci.kernels[j][0], width = settings.mdci.kernels[j][1], taps = height * width;
  const std::int64_t in = clip.vision.width, out = clip.projection;
  add.uniform(name("weight"), group, {out, in, height, width}, in * taps);
  if (settings.profile == Profile::filo_release) {
    add.uniform(name("bias"), group, {out}, in * taps);
    return;
  }
  if (!settings.mdci.deformable) return;
  add.zero(name("offset.weight"), group, {2 * taps, in, height, width});
  add.zero(name("offset.bias"), group, {2 * taps});
  if (!settings.mdci.modulated) return;
  add.zero(name("mask.weight"), group, {taps, in, height, width});
  add.zero(name("mask.bias"), group, {taps});
}

// "3x3", and from the second kernel of a shape on "3x3-2".
std::string shape_name(const std::vector<std::array<int, 2>>& kernels, std::size_t j) {
  const std::string shape = std::to_string(kernels[j][0]) + "x" + std::to_string(kernels[j][1]);
  const auto same = std::count(kernels.begin(), kernels.begin() + static_cast<std::ptrdiff_t>(j), kernels[j]);
  return same == 0 ? shape : shape + "-" + std::to_string(same + 1);
}

}  // namespace

std::vector<int> vv_layers(const ModelSettings& settings) {
  std::vector<int> layers;
  if (settings.mdci.kernels.empty()) return layers;
  std::copy_if(settings.layers.begin(), settings.layers.end(), std::back_inserter(layers),
               [&](int layer) { return layer >= settings.vv_from; });
  return layers;
}

ParameterNames::ParameterNames(const ModelSettings& settings) : settings_(settings), vv_layers_(vv_layers(settings)) {}

std::string ParameterNames::vectors(bool abnormal) const {
  if (settings_.profile == Profile::filo_release)
    return abnormal ? "abnormal_prompt_learner.ctx" : "normal_prompt_learner.ctx";
  return abnormal ? "prompts.abnormal.vectors" : "prompts.normal.vectors";
}

std::string ParameterNames::meta_net(bool abnormal, int layer, const std::string& what) const {
  const std::string kind = abnormal ? "abnormal" : "normal";
  const std::string learner = settings_.profile == Profile::filo_release ? kind + "_prompt_learner" : "prompts." + kind;
  return learner + ".meta_net.linear" + std::to_string(layer) + "." + what;
}

std::string ParameterNames::linear(std::size_t stage, const std::string& what) const {
  if (settings_.profile == Profile::filo_release) return "decoder_linear.fc." + std::to_string(stage) + "." + what;
  return "linear." + std::to_string(settings_.layers[stage]) + "." + what;
}

std::string ParameterNames::kernel(std::size_t vv_stage, std::size_t kernel, const std::string& what) const {
  const auto& kernels = settings_.mdci.kernels;
  if (settings_.profile == Profile::filo_release) {
    return "decoder_cov.fc_" + std::to_string(kernels[kernel][0]) + std::to_string(kernels[kernel][1]) + "." +
           std::to_string(vv_stage) + "." + what;
  }
  return "mdci." + std::to_string(vv_layers_[vv_stage]) + "." + shape_name(kernels, kernel) + "." + what;
}

std::string ParameterNames::adapter(int layer) const {
  if (settings_.profile == Profile::filo_release) return layer == 1 ? "adapter.fc.0.weight" : "adapter.fc.2.weight";
  return "adapter.linear" + std::to_string(layer) + ".weight";
}

LearnableParameters initial_parameters(const ModelSettings& settings, const ClipConfig& clip, std::uint64_t seed,
                                       torch::Device device) {
  LearnableParameters parameters;
  Initializer add(parameters, seed, device);
  const ParameterNames names(settings);
  add_prompts(add, names, settings.prompts, clip);
  const std::int64_t patch_width = clip.vision.width, width = clip.projection,
                     bottleneck = std::max(1, clip.projection / 2);
  for (std::size_t stage = 0; stage < settings.layers.size(); ++stage) {
    add.uniform(names.linear(stage, "weight"), ParameterGroup::mdci, {width, patch_width}, patch_width);
    add.uniform(names.linear(stage, "bias"), ParameterGroup::mdci, {width}, patch_width);
  }
  for (std::size_t stage = 0; stage < vv_layers(settings).size(); ++stage) {
    for (std::size_t j = 0; j < settings.mdci.kernels.size(); ++j) add_kernel(add, names, settings, clip, stage, j);
  }
  add.uniform(names.adapter(1), ParameterGroup::adapter, {bottleneck, width}, width);
  add.uniform(names.adapter(2), ParameterGroup::adapter, {width, bottleneck}, bottleneck);
  return parameters;
}

}  // namespace filo
