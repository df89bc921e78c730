#include "model/systems/system.hpp"

#include <algorithm>

#include "base/error.hpp"
#include "model/systems/filo_plus_plus/filo_plus_plus.hpp"
#include "model/systems/filo_release/filo_release.hpp"

namespace filo {
namespace {

// The one place that knows which systems there are.
struct KnownSystem {
  Profile profile;
  VisionOptions (*wanted_features)(const std::vector<int>& layers, int vv_from);
  std::unique_ptr<System> (*make)(const ModelSettings& settings, const Descriptions& descriptions,
                                  std::shared_ptr<const ClipModel> clip, std::uint64_t seed);
};

constexpr KnownSystem known_systems[] = {
    {Profile::paper, filo_plus_plus_features, make_filo_plus_plus},
    {Profile::filo_release, filo_release_features, make_filo_release},
};

const KnownSystem& system_of(Profile profile) {
  for (const KnownSystem& known : known_systems)
    if (known.profile == profile) return known;
  throw Error("model", "a profile without a system");
}

}  // namespace

std::unique_ptr<System> make_system(const ModelSettings& settings, const Descriptions& descriptions,
                                    std::shared_ptr<const ClipModel> clip, std::uint64_t seed) {
  return system_of(settings.profile).make(settings, descriptions, std::move(clip), seed);
}

VisionOptions wanted_features(Profile profile, const std::vector<int>& layers, int vv_from) {
  return system_of(profile).wanted_features(layers, vv_from);
}

VisionOptions wanted_features(const ModelSettings& settings) {
  VisionOptions wanted = wanted_features(settings.profile, settings.layers, settings.vv_from);
  wanted.precision = settings.precision;
  return wanted;
}

System::System(ModelSettings settings, TensorMap parameters)
    : settings_(std::move(settings)), parameters_(std::move(parameters)) {}

System::~System() = default;

FrozenVectors System::frozen_vectors(const TrainingPhase&) const {
  return [](const ImageBatch& batch) { return torch::empty({batch.global.size(0), 0}, batch.global.options()); };
}

void System::load_parameters(const TensorMap& given, const std::string& where) {
  std::string problems;
  const auto note = [&](const std::string& problem) { problems += (problems.empty() ? "" : "; ") + problem; };
  for (const auto& [name, parameter] : parameters_) {
    const auto found = given.find(name);
    if (found == given.end()) {
      note("missing '" + name + "', expected shape " + shape_to_string(parameter.sizes()));
    } else if (found->second.sizes() != parameter.sizes()) {
      note("'" + name + "' has shape " + shape_to_string(found->second.sizes()) + ", expected " +
           shape_to_string(parameter.sizes()));
    } else if (!found->second.is_floating_point()) {
      note("'" + name + "' has type " + c10::toString(found->second.scalar_type()) + ", expected float32");
    } else if (!found->second.isfinite().all().item<bool>()) {
      note("'" + name + "' holds values that are not finite");
    }
  }
  for (const auto& [name, tensor] : given) {
    if (!parameters_.contains(name)) note("extra '" + name + "' of shape " + shape_to_string(tensor.sizes()));
  }
  if (!problems.empty()) throw UsageError(where, problems);
  const torch::NoGradGuard no_grad;
  for (const auto& [name, tensor] : given) parameters_.at(name).copy_(tensor);
}

std::vector<RankedDescription> rank_descriptions(const std::vector<PromptMatch>& prompts) {
  std::map<std::string, RankedDescription> best;
  for (const auto& match : prompts) {
    if (!match.prompt.abnormal) continue;
    const auto [found, added] = best.try_emplace(match.prompt.description);
    if (!added && match.similarity <= found->second.similarity) continue;
    const std::string position = match.prompt.position < 0 ? "" : std::string(position_name(match.prompt.position));
    found->second = {match.prompt.description, position, match.similarity};
  }
  std::vector<RankedDescription> ranked;
  for (auto& [description, one] : best) ranked.push_back(std::move(one));
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.similarity > b.similarity; });
  return ranked;
}

}  // namespace filo
