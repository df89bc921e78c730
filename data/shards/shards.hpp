// Feature shards: what the frozen vision tower made of each image, in HDF5 files that h5py opens, read without HDF5's
// lock.
//
// FOLDER/shard-NNNNN.h5 (HDF5 1.10 format, N = samples in it, L a layer):
//   /images /class /split /defect /boxes  [N] UTF-8, zero-padded      /label [N] i32
//   /global [N, C] f32     /qkv/L /vv/L [N, P, C_v] f16     /mask [N, S, S] u8 (0 or 1)     one chunk = one image,
//   uncompressed /checksums [N, tensors] u32: CRC-32 (zlib's) of each chunk; its attribute `tensors` names the columns
//   attributes of /: `format` (1), `layout` and `key` (JSON), `digest` (SHA-256 over the samples' table and checksums)
// FOLDER/manifest.json: {"format": 1, "layout": {…}, "key": {…}, "shards": [{"file", "bytes"}], "tensors": ["global",
// "qkv/6", …],
//   "samples": [{"image", "class", "label", "split", "defect", "boxes"?, "shard", "row", "crc32": […]}], "digest":
//   SHA-256 of the rest in canonical form}. Samples stand in the data set's order. It is written last: a folder without
//   it is unfinished.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/json.hpp"

namespace filo {

struct FeatureLayout {
  int global_size = 768;        // C
  int patches = 1369;           // P
  int width = 1024;             // C_v
  std::vector<int> qkv_layers;  // ascending
  std::vector<int> vv_layers;   // ascending
  int mask_size = 518;          // S
  bool operator==(const FeatureLayout&) const = default;
};
Json to_json(const FeatureLayout& layout);
// Throws Error naming `where` and the key; sizes are 1 to 65536, masks to 16384.
FeatureLayout feature_layout_from_json(const Json& json, const std::string& where);

struct SampleInfo {
  std::string image;  // path relative to the data set's root: the sample's name
  std::string class_name;
  int label = 0;      // 1: anomalous
  std::string split;  // "train" or "test"
  std::string defect;
  std::optional<std::string> boxes;  // JSON, as data/boxes reads it
  std::size_t folder = 0;            // of those that a reader opened
};

struct FeatureSample : SampleInfo {
  std::vector<float> global;                      // [C]
  std::map<int, std::vector<std::uint16_t>> qkv;  // layer -> [P, C_v], binary16 bits (data/shards/half.hpp)
  std::map<int, std::vector<std::uint16_t>> vv;   // likewise
  std::vector<std::uint8_t> mask;                 // [S, S], 0 or 1
};

// Appends samples to shard files. Several processes may write to one folder at once: a shard is written under a
// temporary name (".shard….tmp") and gets the next free number by link(2) when it is full, so a killed writer leaves no
// shard that is not whole. Not thread-safe.
class ShardWriter {
 public:
  // `key`: what made the features (weights digest, profile, image size, encoder revision), kept in every shard.
  // `rank` only names temporary files. Creates `folder`.
  ShardWriter(std::filesystem::path folder, FeatureLayout layout, Json key, int rank,
              std::size_t samples_per_shard = 64);
  ~ShardWriter();  // discards an unfinished shard: call close()
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  // Throws Error when a tensor's size is not the layout's, or a layer is missing or too many (names both).
  void append(const FeatureSample& sample);
  // Finishes the last shard, durably.
  void close();

 private:
  struct Open;
  void finish_shard();
  std::filesystem::path folder_;
  FeatureLayout layout_;
  Json key_;
  int rank_;
  std::size_t samples_per_shard_;
  std::unique_ptr<Open> open_;
};

// The images that whole shards in `folder` hold: what a resumed writer need not make again. Shards that were made with
// another key or layout, or are damaged, do not count (a warning names each). Empty when there is no folder.
std::set<std::string> finished_images(const std::filesystem::path& folder, const FeatureLayout& layout,
                                      const Json& key);

// Rank 0, after all writers closed: writes manifest.json with `images` (the data set's, in its order), removes what
// killed writers left. Throws Error naming the first image that no shard holds, and how many are missing.
void finish_features(const std::filesystem::path& folder, const FeatureLayout& layout, const Json& key,
                     const std::vector<std::string>& images);

// What read() fills; the rest of a sample stays empty.
struct Parts {
  bool global = true;
  bool maps = true;  // qkv and vv
  bool mask = true;
};

// Reads samples with pread; HDF5 is asked for the chunks' places once, when opened.
// read() and info() are thread-safe; opening is, too (a lock around HDF5).
class ShardReader {
 public:
  enum class Verify {
    never,
    first_read,  // each chunk's CRC-32 the first time this reader reads it
    always,
  };

  // Opens FOLDER/manifest.json and all its shards. Throws Error naming file, dataset and what is wrong: no manifest
  // (not finished), a shard missing, truncated or of other sizes, a chunk outside its file. `expected_key`: the key
  // must be this.
  explicit ShardReader(const std::filesystem::path& folder, Verify verify = Verify::first_read,
                       const std::optional<Json>& expected_key = std::nullopt);
  // The samples of several folders, one after another, as one: they must have one layout. key() is the first one's; an
  // image that two folders have is found in the first.
  explicit ShardReader(const std::vector<std::filesystem::path>& folders, Verify verify = Verify::first_read);
  ~ShardReader();
  ShardReader(const ShardReader&) = delete;
  ShardReader& operator=(const ShardReader&) = delete;

  std::size_t size() const;
  const FeatureLayout& layout() const;
  const Json& key() const;
  const SampleInfo& info(std::size_t index) const;  // no disk access
  std::optional<std::size_t> find(const std::string& image) const;

  // Throws Error "shard FILE: DATASET: row R, image 'NAME': …" when the bytes are not there or fail their checksum.
  FeatureSample read(std::size_t index, Parts parts = {}) const;

  std::uint64_t bytes_per_sample(Parts parts = {}) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Samples in the order given, read ahead by threads of its own. next() from one thread.
class Prefetcher {
 public:
  // Keeps at most `depth` samples (read or being read) in memory. `reader` must outlive this.
  Prefetcher(const ShardReader& reader, std::vector<std::size_t> order, std::size_t depth, int threads = 1,
             Parts parts = {});
  ~Prefetcher();  // stops reading
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // The next sample of the order, nullopt after the last. Throws what read() threw for it.
  std::optional<FeatureSample> next();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace filo
