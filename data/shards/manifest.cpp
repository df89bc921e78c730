#include <algorithm>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"
#include "data/shards/format.hpp"
#include "workspace/layout.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

SampleInfo sample_from_json(const Json& json, const std::string& where) {
  SampleInfo sample{.image = json.at("image"),
                    .class_name = json.at("class"),
                    .label = json.at("label"),
                    .split = json.at("split"),
                    .defect = json.at("defect"),
                    .masked = json.value("masked", true),
                    .boxes = std::nullopt,
                    .parts = {}};
  if (json.contains("boxes")) sample.boxes = json.at("boxes").get<std::string>();
  if (json.contains("parts")) sample.parts = parts_from_json(json.at("parts"), where);
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
  if (!shard_number(name, false)) throw Error("shards: " + folder.string(), "file name found: '" + name + "'");
  return folder / name;
}

// What open_shard() finds in a shard of format 1, which its manifest does not tell.
void find_offsets(Manifest& manifest) {
  std::vector<std::optional<ShardContent>> contents(manifest.shards.size());
  for (std::size_t i = 0; i < manifest.samples.size(); ++i) {
    Manifest::Place& place = manifest.places[i];
    const fs::path& path = manifest.shards[place.shard].path;
    std::optional<ShardContent>& content = contents[place.shard];
    if (!content) content = open_shard(path);
    if (content->layout != manifest.layout || place.row >= content->samples.size() ||
        content->samples[place.row].image != manifest.samples[i].image)
      throw Error("shard " + path.string(), "row " + std::to_string(place.row) + ": not '" + manifest.samples[i].image +
                                                "', as the manifest says");
    place.offsets = content->offsets[place.row];
  }
}

Manifest parse_manifest(const Json& json, const fs::path& folder, const std::string& where) {
  const Json& format = json.at("format");
  if (format != 1 && format != shard_format)
    throw Error(where, "format found: " + format.dump() + ", expected 1 or " + std::to_string(shard_format));
  check_digest(json, where);
  Manifest manifest{.layout = feature_layout_from_json(json.at("layout"), where + ": layout"),
                    .key = json.at("key"),
                    .shards = {},
                    .samples = {},
                    .places = {}};
  if (format != manifest.layout.format)
    throw Error(where, "layout: of format " + std::to_string(manifest.layout.format) + ", expected " + format.dump());
  const bool first_format = manifest.layout.format == 1;
  const auto tensors = shard_tensors(manifest.layout);
  for (const Json& shard : json.at("shards"))
    manifest.shards.push_back({.path = shard_path(folder, shard.at("file")),
                               .bytes = shard.at("bytes"),
                               .sha256 = first_format ? "" : shard.at("sha256")});
  for (const Json& sample : json.at("samples")) {
    manifest.samples.push_back(sample_from_json(sample, where));
    Manifest::Place place{
        .shard = sample.at("shard"), .row = sample.at("row"), .checksums = sample.at("crc32"), .offsets = {}};
    if (!first_format) place.offsets = sample.at("offsets").get<std::vector<std::uint64_t>>();
    const std::string what = "samples: '" + manifest.samples.back().image + "': ";
    if (place.shard >= manifest.shards.size() || place.checksums.size() != tensors.size() ||
        (!first_format && place.offsets.size() != tensors.size()))
      throw Error(where, what + "shard " + std::to_string(place.shard) + " with " +
                             std::to_string(place.checksums.size()) + " checksums and " +
                             std::to_string(place.offsets.size()) + " offsets found, expected below " +
                             std::to_string(manifest.shards.size()) + " and " + std::to_string(tensors.size()));
    const std::uint64_t bytes = manifest.shards[place.shard].bytes;
    for (std::size_t i = 0; i < place.offsets.size(); ++i)
      if (place.offsets[i] > bytes || tensors[i].bytes > bytes - place.offsets[i])
        throw Error(where, what + tensors[i].name + " at " + std::to_string(place.offsets[i]) +
                               " found, expected inside of the shard's " + std::to_string(bytes) + " bytes");
    manifest.places.push_back(std::move(place));
  }
  return manifest;
}

}  // namespace

Manifest read_manifest(const fs::path& folder) {
  const fs::path path = features_manifest(folder);
  const std::string where = "shards: " + path.string();
  if (!fs::exists(path)) throw Error(where, "not there: the features are not finished");
  Manifest manifest;
  try {
    manifest = parse_manifest(read_json(path), folder, where);
  } catch (const Json::exception& error) {
    throw Error(where, std::string("not a manifest: ") + told(error));
  }
  if (manifest.layout.format == 1) find_offsets(manifest);
  return manifest;
}

}  // namespace filo
