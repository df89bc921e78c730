// What a plan has to know of things outside the experiment file: data sets' and weights' digests, and their sizes.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "settings/model.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// Of one class of a data set.
struct ImageCounts {
  int train = 0;
  int test = 0;
  std::optional<int> anomalous;  // in either split; unset where the description does not say
  int unmasked = 0;              // of the anomalous: those without a mask
};

struct DatasetInfo {
  std::string name;
  std::string digest;
  std::vector<std::string> classes;
  std::map<std::string, ImageCounts> images;  // by class
  int test_images = 0;
  std::map<std::pair<int, int>, int> test_sizes;  // the same by width and height in pixels
  // Of the images, below the data set's root, by the SHA-256 of each one's file and by that of its pixels.
  std::unordered_map<std::string, std::string> paths;
};

// From WORKSPACE/datasets/NAME.json. Throws UsageError that says which command adds the data set.
DatasetInfo dataset_info(const Workspace& workspace, const std::string& name);

// The sizes that the costs of a stage follow from; those of ViT-L/14@336 where there is no config.json to say.
struct ClipSizes {
  int patch = 14, image_size = 336;  // pixels
  int layers = 24, width = 1024, mlp = 4096;
  int text_layers = 12, text_width = 768;
  int projection = 768;
  std::optional<ClipActivation> activation = ClipActivation::quick_gelu;  // or gelu; unset where the towers differ
};
ClipSizes clip_sizes(const std::filesystem::path& folder);

struct ClipInfo {
  std::string path;    // absolute
  std::string digest;  // clip_digest() (settings/clip_digest.hpp)
  ClipSizes sizes;
};

// The digest is remembered in WORKSPACE/cache by path, size and modification time. Throws UsageError on missing files,
// and on a config.json without the vision tower's patch and layers.
ClipInfo clip_info(const Workspace& workspace, const std::string& folder);

}  // namespace filo
