// Looking after finished feature caches: what is damaged in one, and setting it aside.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data/parallel.hpp"
#include "data/shards/shards.hpp"

namespace filo {

// What a cache's manifest says of it.
struct FeatureCache {
  FeatureLayout layout;
  Json key;
  std::size_t samples = 0;
  std::size_t shards = 0;
  std::uint64_t bytes = 0;
};
// What the samples of a cache of this key are: "images", "tiles" or "mosaics".
const char* unit_of_samples(const Json& key);
// Throws Error naming the manifest when it is not there or not sound.
FeatureCache read_feature_cache(const std::filesystem::path& folder);

struct ShardProblem {
  std::string file;        // in the folder: a shard, or manifest.json
  std::string reason;      // names tensor and image where there are some
  std::size_t images = 0;  // that the manifest finds in it
};

// Reads every byte of the cache. Empty: all is as it was written.
std::vector<ShardProblem> verify_features(const std::filesystem::path& folder, const Progress& progress = nullptr);

// Renames FILE to FILE.damaged, durably, where it is there: nobody reads it any more, and its images count as missing.
void set_aside(const std::filesystem::path& file);

// Sets the shard aside if the manifest beside it names it; false: it does not, or no longer.
bool set_aside_if_named(const std::filesystem::path& shard);

// What was set aside, in the folder.
std::vector<std::filesystem::path> set_aside_files(const std::filesystem::path& folder);

}  // namespace filo
