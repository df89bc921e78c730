#include "data/shards/cache_care.hpp"

#include <algorithm>
#include <map>
#include <mutex>

#include "base/error.hpp"
#include "base/files.hpp"
#include "data/shards/format.hpp"
#include "data/shards/shard_writer.hpp"
#include "workspace/layout.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

// nullopt: sound.
std::optional<std::string> fault_of(const Manifest::Shard& shard, const Manifest& manifest) {
  std::error_code error;
  const std::uint64_t found = fs::file_size(shard.path, error);
  if (error) return "cannot be opened: " + error.message();
  if (found != shard.bytes) return std::to_string(found) + " bytes found, expected " + std::to_string(shard.bytes);
  try {
    const auto checked = check_shard(shard.path, manifest.layout, manifest.key);
    if (!checked) return "made with other settings than the manifest's";
    if (!shard.sha256.empty() && checked->sha256 != shard.sha256)
      return "SHA-256 found: " + checked->sha256 + ", expected " + shard.sha256;
  } catch (const Error& problem) {
    const std::string text = problem.what(), file = shard.path.string() + ": ";
    const std::size_t at = text.rfind(file);
    return at == std::string::npos ? text : text.substr(at + file.size());
  }
  return std::nullopt;
}

}  // namespace

const char* unit_of_samples(const Json& key) {
  return key.contains("mosaics") ? "mosaics" : key.contains("tiling") ? "tiles" : "images";
}

FeatureCache read_feature_cache(const fs::path& folder) {
  const Manifest manifest = read_manifest(folder);
  FeatureCache cache{.layout = manifest.layout,
                     .key = manifest.key,
                     .samples = manifest.samples.size(),
                     .shards = manifest.shards.size()};
  for (const auto& shard : manifest.shards) cache.bytes += shard.bytes;
  return cache;
}

std::vector<ShardProblem> verify_features(const fs::path& folder, const Progress& progress) {
  Manifest manifest;
  try {
    manifest = read_manifest(folder);
  } catch (const Error& error) {
    return {{features_manifest(folder).filename().string(), error.what(), 0}};
  }
  std::vector<std::size_t> images(manifest.shards.size());
  for (const auto& place : manifest.places) ++images[place.shard];
  std::mutex mutex;
  std::map<std::size_t, ShardProblem> problems;
  parallel_for(
      manifest.shards.size(), 0,
      [&](std::size_t i) {
        const auto fault = fault_of(manifest.shards[i], manifest);
        if (!fault) return;
        const std::lock_guard held(mutex);
        problems[i] = {manifest.shards[i].path.filename().string(), *fault, images[i]};
      },
      progress);
  std::vector<ShardProblem> found;
  for (auto& [number, problem] : problems) found.push_back(std::move(problem));
  return found;
}

void set_aside(const fs::path& file) {
  std::error_code error;
  fs::rename(file, file.string() + set_aside_suffix, error);
  if (error && error != std::errc::no_such_file_or_directory)
    throw Error("shards: " + file.string(), "cannot be set aside: " + error.message());
  sync_path(file.parent_path());
}

bool set_aside_if_named(const fs::path& shard) {
  const Manifest manifest = read_manifest(shard.parent_path());
  if (std::ranges::find(manifest.shards, shard.filename(), [](const auto& one) { return one.path.filename(); }) ==
      manifest.shards.end())
    return false;
  set_aside(shard);
  return true;
}

std::vector<fs::path> set_aside_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (entry.path().extension() == set_aside_suffix) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace filo
