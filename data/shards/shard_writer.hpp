// Writes the shards of a feature cache (shards.hpp), and the manifest that finishes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/shards/shards.hpp"

namespace filo {

// A whole shard whose bytes were all looked at.
struct ShardFile {
  std::string name;  // in its folder
  std::uint64_t bytes = 0;
  std::string sha256;
  std::vector<std::string> images;
};
Json to_json(const ShardFile& file);
ShardFile shard_file_from_json(const Json& json);

inline constexpr std::uint64_t default_shard_bytes = std::uint64_t{1} << 30;

// Appends samples to shard files of about `shard_bytes` each. Several processes may write to one folder at once: a
// shard is written under a temporary name and gets the next free number by link(2) when it is full, so a killed writer
// leaves no shard that is not whole. Not thread-safe.
class ShardWriter {
 public:
  // `key`: what made the features (digests of weights and data set, settings), kept in every shard.
  // `name`: of temporary files: no other writer of the folder has it (letters, digits, '-' and '.'). Creates `folder`.
  ShardWriter(std::filesystem::path folder, const FeatureLayout& layout, Json key, std::string name,
              std::uint64_t shard_bytes = default_shard_bytes);
  ~ShardWriter();  // discards an unfinished shard: call close()
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  // Throws Error when a tensor's size is not the layout's, or a layer is missing or too many (names both), and when
  // somebody has removed the temporary file: another writer has taken over (remove_unfinished_shards()).
  void append(const FeatureSample& sample);
  // Finishes the last shard, durably.
  void close();

  // Those that it has finished.
  const std::vector<ShardFile>& finished() const { return finished_; }

 private:
  struct Open;
  void finish_shard();
  std::filesystem::path folder_;
  FeatureLayout layout_;
  Json key_;
  std::string name_;
  std::size_t samples_per_shard_;
  unsigned shards_ = 0;  // begun
  std::unique_ptr<Open> open_;
  std::vector<ShardFile> finished_;
};

// What writers that have ended left. One that still writes comes to an Error: the folder has one set of writers.
void remove_unfinished_shards(const std::filesystem::path& folder);

// The shards of the folder, without manifest, damaged and unfinished ones; empty when there is no folder.
std::vector<std::string> shard_names(const std::filesystem::path& folder);

// Reads the whole shard: its tables, the checksum of every chunk, the digest of the file. Throws ShardDamage naming the
// shard, and tensor and image where a chunk is wrong. nullopt: it is sound, but of another layout or key.
std::optional<ShardFile> check_shard(const std::filesystem::path& path, const FeatureLayout& layout, const Json& key);

// After all writers closed: writes manifest.json with `images` (the data set's, in its order) out of `shards`. Throws
// Error naming the first image that no shard holds, and how many are missing.
void finish_features(const std::filesystem::path& folder, const FeatureLayout& layout, const Json& key,
                     const std::vector<std::string>& images, std::vector<ShardFile> shards);

}  // namespace filo
