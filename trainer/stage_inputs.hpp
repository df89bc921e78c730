// What a stage's spec names (workspace/spec.hpp), loaded, and checked to be what the stage was planned with.
#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/boxes.hpp"
#include "data/datasets/dataset.hpp"
#include "data/shards/prefetcher.hpp"
#include "data/shards/shards.hpp"
#include "model/clip/clip.hpp"
#include "trainer/stage.hpp"
#include "workspace/claim.hpp"
#include "workspace/spec.hpp"

namespace filo {

// Throws Error naming `where` and `what` ("its digest") when the two digests differ.
void expect_planned(const std::string& where, const std::string& what, const std::string& found,
                    const std::string& planned);

// Throws Error when its digest is not the one the stage was planned with.
Dataset load_dataset_of(const Stage& stage, const DatasetReference& reference);

// Throws Error when the weights' digest is not the one the stage was planned with. Reads them all.
void check_clip_of(const ClipReference& reference);

// Loads the frozen CLIP that `model` runs over to compute_device(); checks it first, on the root.
std::shared_ptr<const ClipModel> load_clip_of(const Stage& stage, const ClipReference& reference,
                                              const ModelSettings& model, ClipTowers towers = ClipTowers::both);

// Boxes by image; an image that is not named has none. Unset: the model goes without boxes altogether.
using ImageBoxes = std::optional<std::map<std::string, std::vector<Box>>>;

// What the boxes stages among the inputs found, one for each cache of FeatureFolders. Throws UsageError when `model`
// names a source of boxes and the spec no such stage, or the other way round.
std::vector<ImageBoxes> load_boxes_of(const Stage& stage, const ModelSettings& model);

// The feature caches that the stage reads, those of its images and then those of mosaics, in the order of its inputs:
// where they lie, or their copies on this
// machine's disk (StageArguments::local_copy), which are in use while this lives. Collective.
class FeatureFolders {
 public:
  // Throws UsageError on a variable that the environment does not have.
  explicit FeatureFolders(Stage& stage);
  const std::vector<std::filesystem::path>& paths() const { return paths_; }

 private:
  std::vector<std::filesystem::path> paths_;
  Heartbeat heartbeat_{std::chrono::minutes(2)};
};

// How the stage's batches are read ahead: as much as its arguments allow, into memory that a GPU copies from directly.
PrefetchOptions prefetch_options(const Stage& stage);

// What made the features of such a cache; kept in every shard.
Json features_key(const FeaturesSpec& spec);

// The shapes that the cache of such features has.
FeatureLayout feature_layout(const ClipConfig& clip, const FeaturesSpec& spec);

}  // namespace filo
