// The files of a checkpoint: a training's checkpoint/ folder, a snapshot, a bundle, what `filo-worker
// import-checkpoint` writes.
#pragma once

#include <filesystem>

namespace filo {

// The learnable parameters.
inline constexpr const char* parameters_name = "params.safetensors";
inline std::filesystem::path parameters_file(const std::filesystem::path& checkpoint) {
  return checkpoint / parameters_name;
}

// {"model", "train", "clip": {"path", "digest"}, "descriptions", "trained_on", "world_size"}: what `filo-worker
// predict` needs to use the parameters, and where they are from. Of an imported one: model, clip, whose digest is ""
// where no weights were given, descriptions and imported {"file", "digest"}.
inline constexpr const char* settings_name = "settings.json";
inline std::filesystem::path settings_file(const std::filesystem::path& checkpoint) {
  return checkpoint / settings_name;
}

// The folder of a bundle that holds the frozen weights.
inline constexpr const char* bundled_clip = "clip";

}  // namespace filo
