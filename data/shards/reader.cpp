#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <list>
#include <mutex>
#include <new>
#include <unordered_map>
#include <utility>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/log.hpp"
#include "data/shards/format.hpp"
#include "data/shards/shard_reader.hpp"
#include "workspace/layout.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t alignment = 64;
constexpr std::size_t most_open_files = 64;

std::size_t aligned(std::size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

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

bool was_set_aside(const fs::path& shard) {
  std::error_code error;
  return !fs::exists(shard, error) && fs::exists(shard.string() + set_aside_suffix, error);
}

FileDescriptor open_for_reading(const fs::path& shard) {
  try {
    return open_file(shard, O_RDONLY);
  } catch (const Error&) {
    if (was_set_aside(shard)) throw ShardDamage("shard " + shard.string(), "was set aside as damaged", shard.string());
    throw;
  }
}

// The shards that were read last, open. Thread-safe; who holds a file keeps it open.
class OpenFiles {
 public:
  std::shared_ptr<const FileDescriptor> get(std::size_t shard, const fs::path& path) {
    const std::lock_guard held(mutex_);
    const auto found = files_.find(shard);
    if (found != files_.end()) {
      order_.splice(order_.begin(), order_, found->second.place);
      return found->second.file;
    }
    auto file = std::make_shared<const FileDescriptor>(open_for_reading(path));
    if (files_.size() == most_open_files) {
      files_.erase(order_.back());
      order_.pop_back();
    }
    order_.push_front(shard);
    files_.emplace(shard, Entry{file, order_.begin()});
    return file;
  }

 private:
  struct Entry {
    std::shared_ptr<const FileDescriptor> file;
    std::list<std::size_t>::iterator place;
  };
  std::mutex mutex_;
  std::list<std::size_t> order_;  // the last used first
  std::unordered_map<std::size_t, Entry> files_;
};

}  // namespace

std::shared_ptr<std::byte> allocate_aligned(std::size_t bytes) {
  constexpr std::size_t huge_page = std::size_t{2} << 20;
  const bool is_large = bytes >= huge_page;
  const std::size_t unit = is_large ? huge_page : alignment;
  const std::size_t size = (std::max<std::size_t>(bytes, 1) + unit - 1) / unit * unit;
  auto* const memory = static_cast<std::byte*>(std::aligned_alloc(unit, size));
  if (memory == nullptr) throw std::bad_alloc();
  if (is_large) madvise(memory, size, MADV_HUGEPAGE);  // by small pages the first touch takes longer than the read
  return {memory, [](std::byte* pointer) { std::free(pointer); }};
}

// Where each tensor lies in a block; nothing of those that were not asked for.
struct BlockShape {
  FeatureLayout layout;
  std::vector<ShardTensor> tensors;
  std::vector<std::optional<std::size_t>> begins;
  std::size_t bytes = 0;

  BlockShape(const FeatureLayout& of, const std::vector<ShardTensor>& all, Parts parts, std::size_t samples)
      : layout(of), tensors(all) {
    for (const ShardTensor& tensor : tensors) {
      const bool wanted = tensor.is_map ? parts.maps : tensor.name == "global" ? parts.global : parts.mask;
      begins.push_back(wanted ? std::optional(bytes) : std::nullopt);
      if (wanted) bytes += aligned(samples * tensor.bytes);
    }
  }
};

const std::byte* FeatureBlock::find(const std::string& tensor) const {
  for (std::size_t i = 0; i < shape_->tensors.size(); ++i)
    if (shape_->tensors[i].name == tensor) return shape_->begins[i] ? memory_.get() + *shape_->begins[i] : nullptr;
  return nullptr;
}

const float* FeatureBlock::global() const { return reinterpret_cast<const float*>(find("global")); }

const std::byte* FeatureBlock::map(bool vv, int layer) const {
  return find(stored_map(shape_->layout, {vv, layer}).name());
}

const float* FeatureBlock::scales(bool vv, int layer) const {
  return reinterpret_cast<const float*>(find(stored_map(shape_->layout, {vv, layer}).scale_name()));
}

bool FeatureBlock::has_mask() const { return shape_->begins.back().has_value(); }

void FeatureBlock::mask(std::size_t sample, std::span<std::uint8_t> to) const {
  const ShardTensor& tensor = shape_->tensors.back();
  const std::byte* from = memory_.get() + shape_->begins.back().value() + sample * tensor.bytes;
  if (shape_->layout.format == 1) {
    std::transform(from, from + to.size(), to.begin(),
                   [](std::byte value) { return std::to_integer<std::uint8_t>(value); });
    return;
  }
  for (std::size_t i = 0; i < to.size(); ++i)
    to[i] = std::to_integer<std::uint8_t>(from[i / 8] >> (7 - i % 8) & std::byte{1});
}

struct ShardReader::State {
  Manifest manifest;
  Verify verify;
  std::vector<ShardTensor> tensors;
  std::unordered_map<std::string, std::size_t> index;
  mutable OpenFiles files;
  mutable std::vector<std::atomic<bool>> verified;  // [sample * tensors + tensor]

  State(const std::vector<fs::path>& folders, Verify how)
      : manifest(read_manifests(folders)),
        verify(how),
        tensors(shard_tensors(manifest.layout)),
        verified(manifest.samples.size() * tensors.size()) {
    for (const auto& shard : manifest.shards) check_size(shard);
    for (std::size_t i = 0; i < manifest.samples.size(); ++i) index.emplace(manifest.samples[i].image, i);
  }

  static void check_size(const Manifest::Shard& shard) {
    const std::string where = "shard " + shard.path.string();
    std::error_code error;
    const std::uint64_t found = fs::file_size(shard.path, error);
    if (error && was_set_aside(shard.path)) throw ShardDamage(where, "was set aside as damaged", shard.path.string());
    if (error) throw Error(where, "cannot be opened: " + error.message() + " (" + how_to_mend(shard.path) + ")");
    if (found != shard.bytes)
      throw Error(where, std::to_string(found) + " bytes found, expected " + std::to_string(shard.bytes) + " (" +
                             how_to_mend(shard.path) + ")");
  }

  static std::string how_to_mend(const fs::path& shard) {
    return "`filo features repair " + shard.parent_path().filename().string() + "` makes it anew";
  }

  std::string where(std::size_t sample, std::size_t tensor) const {
    const auto& place = manifest.places[sample];
    return "shard " + manifest.shards[place.shard].path.string() + ": " + tensors[tensor].name + ": row " +
           std::to_string(place.row) + ", image '" + manifest.samples[sample].image + "'";
  }

  void read_chunk(std::size_t sample, std::size_t tensor, std::span<std::byte> target) const {
    const auto& place = manifest.places[sample];
    const auto file = files.get(place.shard, manifest.shards[place.shard].path);
    if (const std::size_t found = read_at(file->get(), target, place.offsets[tensor], where(sample, tensor));
        found < target.size())
      throw Error(where(sample, tensor),
                  std::to_string(found) + " bytes found, expected " + std::to_string(target.size()) + " (truncated)");
  }

  bool fits(std::size_t sample, std::size_t tensor, std::span<const std::byte> bytes) const {
    return chunk_checksum(bytes) == manifest.places[sample].checksums[tensor];
  }

  void verify_chunk(std::size_t sample, std::size_t tensor, std::span<std::byte> bytes) const {
    std::atomic<bool>& seen = verified[sample * tensors.size() + tensor];
    if (verify == Verify::never || (verify == Verify::first_read && seen.load(std::memory_order_relaxed))) return;
    if (!fits(sample, tensor, bytes)) read_again(sample, tensor, bytes);
    seen.store(true, std::memory_order_relaxed);
  }

  // A shard is judged by what the disk holds: not by what this machine's memory or a file server's answer made of it.
  void read_again(std::size_t sample, std::size_t tensor, std::span<std::byte> bytes) const {
    const auto& place = manifest.places[sample];
    const fs::path& path = manifest.shards[place.shard].path;
    const std::uint32_t found = chunk_checksum(bytes);
    const FileDescriptor file = open_for_reading(path);
    posix_fadvise(file.get(), static_cast<off_t>(place.offsets[tensor]), static_cast<off_t>(bytes.size()),
                  POSIX_FADV_DONTNEED);
    const bool whole = read_at(file.get(), bytes, place.offsets[tensor], where(sample, tensor)) == bytes.size();
    if (!whole || !fits(sample, tensor, bytes))
      throw ShardDamage(where(sample, tensor),
                        "CRC-32 found: " + std::to_string(found) + ", expected " +
                            std::to_string(place.checksums[tensor]) + " (the file was altered)",
                        path.string());
    log_warning(where(sample, tensor) +
                ": was read wrong, and right when it was read again: this machine's memory or its " +
                "connection to the disk is in doubt");
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

FeatureBlock ShardReader::read(std::span<const std::size_t> indices, Parts parts) const {
  FeatureBlock block = make_block(indices, parts, allocate_aligned);
  for (std::size_t i = 0; i < indices.size(); ++i) fill(block, i, indices[i]);
  return block;
}

FeatureBlock ShardReader::make_block(std::span<const std::size_t> indices, Parts parts,
                                     const Allocate& allocate) const {
  FeatureBlock block;
  for (const std::size_t index : indices) block.samples_.push_back(info(index));
  auto shape = std::make_shared<const BlockShape>(layout(), state_->tensors, parts, indices.size());
  block.memory_ = allocate(shape->bytes);
  block.shape_ = std::move(shape);
  return block;
}

void ShardReader::fill(FeatureBlock& block, std::size_t place, std::size_t index) const {
  for (std::size_t tensor = 0; tensor < state_->tensors.size(); ++tensor) {
    if (!block.shape_->begins[tensor]) continue;
    const std::size_t bytes = state_->tensors[tensor].bytes;
    const std::span<std::byte> target(block.memory_.get() + *block.shape_->begins[tensor] + place * bytes, bytes);
    state_->read_chunk(index, tensor, target);
    state_->verify_chunk(index, tensor, target);
  }
}

std::uint64_t ShardReader::bytes_per_sample(Parts parts) const {
  std::uint64_t bytes = 0;
  const BlockShape shape(layout(), state_->tensors, parts, 1);
  for (std::size_t i = 0; i < shape.tensors.size(); ++i)
    if (shape.begins[i]) bytes += shape.tensors[i].bytes;
  return bytes;
}

}  // namespace filo
