// Inside data/ only: what writer and reader of shards share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/shards/hdf5.hpp"
#include "data/shards/shards.hpp"

namespace filo {

constexpr int shard_format = 2;
constexpr std::size_t max_samples_per_shard = 65536;

enum class ElementType { f32, f16, u16, i8, u8 };

// One data set of a shard that has a chunk per image.
struct ShardTensor {
  std::string name;            // "qkv/6"
  bool is_map = false;         // qkv, vv and their scales
  std::vector<hsize_t> shape;  // of one image
  ElementType type;
  std::size_t bytes;  // of one image
};

struct MapName {
  bool vv = false;
  int layer = 0;
  std::string name() const { return (vv ? "vv/" : "qkv/") + std::to_string(layer); }
  std::string scale_name() const { return (vv ? "vv_scale/" : "qkv_scale/") + std::to_string(layer); }
};
// Those that are stored, in their order: all but layout.same_as.
std::vector<MapName> stored_maps(const FeatureLayout& layout);
// The one that is stored in its place: itself, as a rule.
MapName stored_map(const FeatureLayout& layout, MapName map);

// global, qkv/…, vv/…, their scales, mask: the order of the checksums' columns.
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
Json to_json(const std::vector<ImagePart>& parts);
// Throws Error naming `where` where a tile does not lie in its image, Json::exception.
std::vector<ImagePart> parts_from_json(const Json& json, const std::string& where);

// SHA-256 over what a shard says about its samples (the attribute `digest`).
std::string table_digest(const std::vector<SampleInfo>& samples,
                         const std::vector<std::vector<std::uint32_t>>& checksums);

// Throws Error naming file, data set and row.
ShardContent open_shard(const std::filesystem::path& path);

// The number of shard-NNNNN.h5, or of one that was set aside.
std::optional<int> shard_number(const std::string& file_name, bool set_aside);
inline constexpr const char* set_aside_suffix = ".damaged";

// CRC-32 as zlib's.
std::uint32_t chunk_checksum(std::span<const std::byte> bytes);

// All bytes at `offset`, into `target`; the number of those that were there. Throws Error naming `where`.
std::size_t read_at(int file, std::span<std::byte> target, std::uint64_t offset, const std::string& where);

// manifest.json, checked but for the shards that it names.
struct Manifest {
  struct Shard {
    std::filesystem::path path;
    std::uint64_t bytes = 0;
    std::string sha256;  // "" in format 1
  };
  struct Place {
    std::size_t shard = 0, row = 0;
    std::vector<std::uint32_t> checksums;  // by tensor
    std::vector<std::uint64_t> offsets;    // by tensor, bytes into the file
  };
  FeatureLayout layout;
  Json key;
  std::vector<Shard> shards;
  std::vector<SampleInfo> samples;
  std::vector<Place> places;
};
// Throws Error naming the file. Of format 1 the shards are opened for their offsets.
Manifest read_manifest(const std::filesystem::path& folder);

}  // namespace filo
