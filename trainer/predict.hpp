// A checkpoint applied to single images: score, anomaly map, and which anomaly it is.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "data/images/image.hpp"

namespace filo {

struct PromptMatch;  // model/systems/system.hpp

struct PredictOptions {
  std::filesystem::path checkpoint;           // STAGE/checkpoint/: params.safetensors, settings.json
  std::optional<std::filesystem::path> clip;  // another place of the CLIP folder than the checkpoint's settings name
  std::optional<std::string> descriptions;    // a descriptions file that knows the class; default: the checkpoint's own
  std::string class_name;
  std::vector<std::filesystem::path> images;
  std::vector<std::filesystem::path> normal_images;  // few-shot references; empty: zero-shot
  std::optional<std::filesystem::path> boxes;        // a file as data/boxes.hpp reads it; keys: paths as in `images`
  // Folder for NAME.png (photo beside its anomaly map) and NAME.safetensors (map [S, S]); NAME: see output_names().
  std::optional<std::filesystem::path> out;
  std::optional<Grey16Range> grey16;  // of the images; unset: the high byte (data/images/image.hpp)
  int threads = 1;
};

// What the images' outputs are called: their paths below the folder that they have in common, without the extension;
// with it where two images would share a name. a/1.png, b/1.png and b/1.jpg: "a/1", "b/1.png", "b/1.jpg". Throws
// UsageError where an image is given twice.
std::vector<std::filesystem::path> output_names(const std::vector<std::filesystem::path>& images);

// [{"image", "score", "max", "descriptions": [{"description", "position", "similarity"}, ...], "heat_map"?, "map"?},
// ...], in the order given. Throws UsageError: a folder that is no checkpoint, a checkpoint of other weights (the
// digest of CLIP differs), an unknown class, an unreadable image, an output that would replace an image.
Json predict(const PredictOptions& options);

// Which anomaly it is, of one image's prompts (section III-B of the paper): the five nearest descriptions, best first:
// [{"description", "position", "similarity"}, ...].
Json interpretation(const std::vector<PromptMatch>& prompts);

}  // namespace filo
