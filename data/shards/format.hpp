// Inside data/ only: what writer and reader of shards share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "data/shards/hdf5.hpp"
#include "data/shards/shards.hpp"

namespace filo {

constexpr int shard_format = 1;
constexpr std::size_t max_samples_per_shard = 65536;

enum class ElementType { f32, f16, u8 };

// One data set of a shard that has a chunk per image.
struct ShardTensor {
  std::string name;            // "qkv/6"
  std::vector<hsize_t> shape;  // of one image
  ElementType type;
  std::size_t bytes;  // of one image
};

// global, qkv/…, vv/…, mask: the order of the checksums' columns.
std::vector<ShardTensor> shard_tensors(const FeatureLayout& layout);
hdf5::Handle element_type(ElementType type, const std::string& where);

// A whole shard as its file says; every size is checked against the file's.
struct ShardContent {
  std::filesystem::path path;
  std::uint64_t bytes = 0;
  FeatureLayout layout;
  Json key;
  std::vector<SampleInfo> samples;                    // by row
  std::vector<std::vector<std::uint32_t>> checksums;  // [row][tensor]
  std::vector<std::vector<std::uint64_t>> offsets;    // [row][tensor], bytes into the file
};

Json to_json(const SampleInfo& sample);

// SHA-256 over what a shard says about its samples (the attribute `digest`).
std::string table_digest(const std::vector<SampleInfo>& samples,
                         const std::vector<std::vector<std::uint32_t>>& checksums);

// Throws Error naming file, data set and row.
ShardContent open_shard(const std::filesystem::path& path);

// shard-NNNNN.h5, by number. Empty when there is no folder.
std::map<int, std::filesystem::path> shard_files(const std::filesystem::path& folder);

// Those of the folder that are whole and made with this layout and key; a warning names each other.
std::vector<ShardContent> usable_shards(const std::filesystem::path& folder, const FeatureLayout& layout,
                                        const Json& key);

std::string temporary_shard_prefix();  // ".shard."
std::string host_name();

std::uint32_t chunk_checksum(std::span<const std::byte> bytes);

}  // namespace filo
