#include "model/systems/filo_release/import.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/error.hpp"
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

}  // namespace filo
