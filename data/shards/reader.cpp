#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"
#include "data/shards/format.hpp"
#include "workspace/layout.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

struct Place {
  std::size_t shard = 0, row = 0;
  std::vector<std::uint32_t> checksums;  // by tensor
};

struct Manifest {
  FeatureLayout layout;
  Json key;
  std::vector<std::pair<fs::path, std::uint64_t>> shards;  // file, bytes
  std::vector<SampleInfo> samples;
  std::vector<Place> places;
};

SampleInfo sample_from_json(const Json& json) {
  SampleInfo sample{.image = json.at("image"),
                    .class_name = json.at("class"),
                    .label = json.at("label"),
                    .split = json.at("split"),
                    .defect = json.at("defect"),
                    .boxes = std::nullopt};
  if (json.contains("boxes")) sample.boxes = json.at("boxes").get<std::string>();
  return sample;
}

void check_digest(Json manifest, const std::string& where) {
  const std::string expected = manifest.at("digest").get<std::string>();
  manifest.erase("digest");
  const std::string found = sha256_hex(canonical_json(manifest));
  if (found != expected) throw Error(where, "altered: digest found: " + found + ", expected " + expected);
}

// A shard's file lies in its manifest's own folder.
fs::path shard_path(const fs::path& folder, const std::string& name) {
  if (fs::path(name).filename() != name) throw Error("shards: " + folder.string(), "file name found: '" + name + "'");
  return folder / name;
}

Manifest parse_manifest(const Json& json, const fs::path& folder, const std::string& where) {
  if (const Json& format = json.at("format"); format != shard_format)
    throw Error(where, "format found: " + format.dump() + ", expected " + std::to_string(shard_format));
  check_digest(json, where);
  Manifest manifest{.layout = feature_layout_from_json(json.at("layout"), where + ": layout"),
                    .key = json.at("key"),
                    .shards = {},
                    .samples = {},
                    .places = {}};
  const std::size_t tensors = shard_tensors(manifest.layout).size();
  for (const Json& shard : json.at("shards"))
    manifest.shards.emplace_back(shard_path(folder, shard.at("file")), shard.at("bytes").get<std::uint64_t>());
  for (const Json& sample : json.at("samples")) {
    manifest.samples.push_back(sample_from_json(sample));
    Place place{.shard = sample.at("shard"), .row = sample.at("row"), .checksums = sample.at("crc32")};
    if (place.shard >= manifest.shards.size() || place.checksums.size() != tensors)
      throw Error(where, "samples: '" + manifest.samples.back().image + "': shard " + std::to_string(place.shard) +
                             " with " + std::to_string(place.checksums.size()) + " checksums found, expected below " +
                             std::to_string(manifest.shards.size()) + " and " + std::to_string(tensors));
    manifest.places.push_back(std::move(place));
  }
  return manifest;
}

Manifest read_manifest(const fs::path& folder) {
  const fs::path path = features_manifest(folder);
  const std::string where = "shards: " + path.string();
  if (!fs::exists(path)) throw Error(where, "not there: the features are not finished");
  try {
    return parse_manifest(read_json(path), folder, where);
  } catch (const Json::exception& error) {
    throw Error(where, std::string("not a manifest: ") + told(error));
  }
}

Manifest read_manifests(const std::vector<fs::path>& folders) {
  if (folders.empty()) throw Error("shards", "no folder found, expected at least one");
  Manifest all = read_manifest(folders[0]);
  for (std::size_t folder = 1; folder < folders.size(); ++folder) {
    Manifest next = read_manifest(folders[folder]);
    if (next.layout != all.layout)
      throw Error("shards: " + features_manifest(folders[folder]).string(),
                  "layout found: " + canonical_json(to_json(next.layout)) + ", expected that of " +
                      folders[0].string() + ", " + canonical_json(to_json(all.layout)));
    for (std::size_t i = 0; i < next.samples.size(); ++i) {
      next.samples[i].folder = folder;
      next.places[i].shard += all.shards.size();
      all.samples.push_back(std::move(next.samples[i]));
      all.places.push_back(std::move(next.places[i]));
    }
    all.shards.insert(all.shards.end(), next.shards.begin(), next.shards.end());
  }
  return all;
}

// Where each tensor of a sample goes; an empty span is not read.
std::vector<std::span<std::byte>> allocate(FeatureSample& sample, const FeatureLayout& layout, Parts parts) {
  const auto positive = [](int value) { return static_cast<std::size_t>(value); };
  std::vector<std::span<std::byte>> targets;
  const auto add = [&](auto& values, bool wanted, std::size_t size) {
    if (wanted) values.resize(size);
    targets.push_back(wanted ? std::as_writable_bytes(std::span(values)) : std::span<std::byte>());
  };
  const auto add_maps = [&](auto& maps, const std::vector<int>& layers) {
    std::vector<std::uint16_t> none;
    for (const int layer : layers)
      add(parts.maps ? maps[layer] : none, parts.maps, positive(layout.patches) * positive(layout.width));
  };
  add(sample.global, parts.global, positive(layout.global_size));
  add_maps(sample.qkv, layout.qkv_layers);
  add_maps(sample.vv, layout.vv_layers);
  add(sample.mask, parts.mask, positive(layout.mask_size) * positive(layout.mask_size));
  return targets;
}

}  // namespace

struct ShardReader::State {
  Manifest manifest;
  Verify verify;
  std::vector<ShardTensor> tensors;
  std::vector<fs::path> paths;
  std::vector<FileDescriptor> files;
  std::vector<std::vector<std::vector<std::uint64_t>>> offsets;  // [shard][row][tensor]
  std::unordered_map<std::string, std::size_t> index;
  mutable std::vector<std::atomic<bool>> verified;  // [sample * tensors + tensor]

  State(const std::vector<fs::path>& folders, Verify how)
      : manifest(read_manifests(folders)),
        verify(how),
        tensors(shard_tensors(manifest.layout)),
        verified(manifest.samples.size() * tensors.size()) {
    std::vector<ShardContent> contents;
    for (const auto& [path, bytes] : manifest.shards) contents.push_back(open(path, bytes));
    for (std::size_t i = 0; i < manifest.samples.size(); ++i) {
      check_place(contents[manifest.places[i].shard], manifest.places[i], manifest.samples[i].image);
      index.emplace(manifest.samples[i].image, i);
    }
    for (ShardContent& content : contents) {
      paths.push_back(content.path);
      files.push_back(open_file(content.path, O_RDONLY));
      offsets.push_back(std::move(content.offsets));
    }
  }

  ShardContent open(const fs::path& path, std::uint64_t bytes) const {
    const std::string where = "shard " + path.string();
    std::error_code error;
    const std::uint64_t found = fs::file_size(path, error);
    if (error) throw Error(where, "cannot be opened: " + error.message());
    if (found != bytes)
      throw Error(where, std::to_string(found) + " bytes found, expected " + std::to_string(bytes) +
                             " (truncated or written anew since the manifest)");
    ShardContent content = open_shard(path);
    if (content.layout != manifest.layout) throw Error(where, "another layout found than the manifest's");
    return content;
  }

  static void check_place(const ShardContent& content, const Place& place, const std::string& image) {
    const std::string where = "shard " + content.path.string();
    if (place.row >= content.samples.size())
      throw Error(where, "row " + std::to_string(place.row) + " expected, " + std::to_string(content.samples.size()) +
                             " rows found");
    if (content.samples[place.row].image != image)
      throw Error(where, "images: row " + std::to_string(place.row) + ": found '" + content.samples[place.row].image +
                             "', expected '" + image + "'");
    if (content.checksums[place.row] != place.checksums)
      throw Error(where, "checksums: row " + std::to_string(place.row) + ": not those of the manifest");
  }

  std::string where(std::size_t sample, std::size_t tensor) const {
    const Place& place = manifest.places[sample];
    return "shard " + paths[place.shard].string() + ": " + tensors[tensor].name + ": row " + std::to_string(place.row) +
           ", image '" + manifest.samples[sample].image + "'";
  }

  void read_chunk(std::size_t sample, std::size_t tensor, std::span<std::byte> target) const {
    const Place& place = manifest.places[sample];
    std::uint64_t offset = offsets[place.shard][place.row][tensor];
    std::span<std::byte> rest = target;
    while (!rest.empty()) {
      const ssize_t got = pread(files[place.shard].get(), rest.data(), rest.size(), static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw Error(where(sample, tensor), std::string("read failed: ") + std::strerror(errno));
      if (got == 0)
        throw Error(where(sample, tensor), std::to_string(target.size() - rest.size()) + " bytes found, expected " +
                                               std::to_string(target.size()) + " (truncated)");
      rest = rest.subspan(static_cast<std::size_t>(got));
      offset += static_cast<std::uint64_t>(got);
    }
  }

  void verify_chunk(std::size_t sample, std::size_t tensor, std::span<const std::byte> bytes) const {
    std::atomic<bool>& seen = verified[sample * tensors.size() + tensor];
    if (verify == Verify::never || (verify == Verify::first_read && seen.load(std::memory_order_relaxed))) return;
    const std::uint32_t found = chunk_checksum(bytes), expected = manifest.places[sample].checksums[tensor];
    if (found != expected)
      throw Error(where(sample, tensor), "CRC-32 found: " + std::to_string(found) + ", expected " +
                                             std::to_string(expected) + " (the file was altered)");
    seen.store(true, std::memory_order_relaxed);
  }

  void check_index(std::size_t sample) const {
    if (sample >= manifest.samples.size())
      throw Error("shards", "sample " + std::to_string(sample) + " found, expected below " +
                                std::to_string(manifest.samples.size()));
  }
};

ShardReader::ShardReader(const fs::path& folder, Verify verify, const std::optional<Json>& expected_key)
    : ShardReader(std::vector{folder}, verify) {
  if (expected_key && state_->manifest.key != *expected_key)
    throw Error("shards: " + features_manifest(folder).string(),
                "key found: " + canonical_json(state_->manifest.key) + ", expected " + canonical_json(*expected_key));
}

ShardReader::ShardReader(const std::vector<fs::path>& folders, Verify verify)
    : state_(std::make_unique<State>(folders, verify)) {}

ShardReader::~ShardReader() = default;

std::size_t ShardReader::size() const { return state_->manifest.samples.size(); }
const FeatureLayout& ShardReader::layout() const { return state_->manifest.layout; }
const Json& ShardReader::key() const { return state_->manifest.key; }

const SampleInfo& ShardReader::info(std::size_t index) const {
  state_->check_index(index);
  return state_->manifest.samples[index];
}

std::optional<std::size_t> ShardReader::find(const std::string& image) const {
  const auto found = state_->index.find(image);
  return found == state_->index.end() ? std::nullopt : std::optional(found->second);
}

FeatureSample ShardReader::read(std::size_t index, Parts parts) const {
  state_->check_index(index);
  FeatureSample sample;
  static_cast<SampleInfo&>(sample) = state_->manifest.samples[index];
  const auto targets = allocate(sample, state_->manifest.layout, parts);
  for (std::size_t tensor = 0; tensor < targets.size(); ++tensor) {
    if (targets[tensor].empty()) continue;
    state_->read_chunk(index, tensor, targets[tensor]);
    state_->verify_chunk(index, tensor, targets[tensor]);
  }
  return sample;
}

std::uint64_t ShardReader::bytes_per_sample(Parts parts) const {
  std::uint64_t bytes = 0;
  for (const ShardTensor& tensor : state_->tensors)
    if (tensor.name == "global" ? parts.global : tensor.name == "mask" ? parts.mask : parts.maps) bytes += tensor.bytes;
  return bytes;
}

}  // namespace filo
