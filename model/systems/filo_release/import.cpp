#include "model/systems/filo_release/import.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <set>
#include <string_view>

#include "base/error.hpp"
#include "model/systems/clip_stages.hpp"
#include "model/torch_file.hpp"

namespace filo {
namespace {

constexpr std::array<std::string_view, 5> learnable = {"normal_prompt_learner.", "abnormal_prompt_learner.",
                                                       "decoder_linear.", "decoder_cov.", "adapter."};
constexpr std::array<std::string_view, 2> frozen = {"clip_model.", "text_encoder."};

bool starts_with_any(std::string_view name, const auto& prefixes) {
  return std::ranges::any_of(prefixes, [&](std::string_view prefix) { return name.starts_with(prefix); });
}

std::string without_module(std::string name) {
  constexpr std::string_view prefix = "module.";
  while (name.starts_with(prefix)) name.erase(0, prefix.size());
  return name;
}

}  // namespace

ImportedCheckpoint import_filo_checkpoint(const std::filesystem::path& path) {
  const std::string where = "import-checkpoint: " + path.string();
  const TorchFile file(path, "filo", where);
  ImportedCheckpoint checkpoint;
  checkpoint.metadata = {{"format", "pt"}, {"profile", "filo-release"}};
  for (const PickledEntry& entry : file.entries()) {
    const std::string name = without_module(entry.name);
    if (starts_with_any(name, frozen)) {
      checkpoint.frozen.push_back(name);
    } else if (!starts_with_any(name, learnable)) {
      checkpoint.unknown.push_back(name);
    } else if (!checkpoint.parameters.emplace(name, file.read(entry).to(torch::kFloat32)).second) {
      throw UsageError(where + ": " + name, "is there twice");
    }
  }
  if (checkpoint.parameters.empty()) {
    throw UsageError(where, "holds none of FiLo's parameters (normal_prompt_learner.*, decoder_cov.*, adapter.*, ...)");
  }
  return checkpoint;
}

void apply_shapes(const TensorMap& parameters, ModelSettings& model, const std::string& where) {
  std::set<std::size_t> linear_stages, vv_stages;
  std::set<std::array<int, 2>> kernels;
  for (const auto& [name, tensor] : parameters) {
    int height = 0, width = 0;
    std::size_t stage = 0;
    if (std::sscanf(name.c_str(), "decoder_linear.fc.%zu.weight", &stage) == 1) linear_stages.insert(stage);
    if (std::sscanf(name.c_str(), "decoder_cov.fc_%1d%1d.%zu.weight", &height, &width, &stage) == 3) {
      kernels.insert({height, width});
      vv_stages.insert(stage);
    }
  }
  const auto expect = [&](std::size_t found, std::size_t expected, const std::string& what, const std::string& key) {
    if (found != expected)
      throw UsageError(where, "found " + what + " of " + std::to_string(found) + " layers, expected " +
                                  std::to_string(expected) + " as " + key + " says; --model names the settings it has");
  };
  if (const auto vectors = parameters.find("normal_prompt_learner.ctx"); vectors != parameters.end())
    model.prompts.vectors = static_cast<int>(vectors->second.size(0));
  if (std::set(model.mdci.kernels.begin(), model.mdci.kernels.end()) != kernels)
    model.mdci.kernels.assign(kernels.begin(), kernels.end());
  expect(linear_stages.size(), model.layers.size(), "decoder_linear", "model.layers");
  expect(vv_stages.size(), vv_layers(model).size(), "decoder_cov", "model.layers from model.vv_from on");
}

}  // namespace filo
