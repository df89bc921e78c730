// Feature shards: what the frozen vision tower made of each image, in HDF5 files that h5py opens and that are read
// without HDF5's lock.
//
// FOLDER/shard-NNNNN.h5 (HDF5 1.10 format, N = samples in it, L a layer; one chunk = one image, uncompressed):
//   /images /class /split /defect /boxes  [N] UTF-8, zero-padded      /label /masked [N] i32
//   /parts [N] JSON, as in the manifest, only where there are tiles or mosaics
//   /global [N, C] f32     /qkv/L /vv/L [N, P, C_v] of the layout's type (bf16: its bits, u16)
//   /qkv_scale/L /vv_scale/L [N, P] f32, with int8 only: a value is scale * integer
//   /mask [N, ceil(S * S / 8)] u8: a bit a pixel, row by row, the highest bit first (numpy.unpackbits)
//   /checksums [N, tensors] u32: CRC-32 (zlib's) of each chunk; its attribute `tensors` names the columns
//   attributes of /: `format` (2), `layout` and `key` (JSON), `digest` (SHA-256 over the samples' table and checksums)
// FOLDER/manifest.json: {"format": 2, "layout": {…}, "key": {…}, "tensors": ["global", "qkv/6", …],
//   "shards": [{"file", "bytes", "sha256"}], "samples": [{"image", "class", "label", "split", "defect", "masked"?,
//   "boxes"?, "parts"?: [{"image", "size": [width, height], "tile": [x, y, width, height]}], "shard", "row", "crc32":
//   […], "offsets": […]}], "digest": SHA-256 of the rest in canonical form}. Samples stand in the data set's order;
//   offsets are bytes into the shard's file. It is written last: a folder without it is unfinished.
// FOLDER/shard-NNNNN.h5.damaged: a shard that was set aside (cache_care.hpp); its number is not given again.
//
// Format 1 (read, no longer written): type f16, /mask [N, S, S] u8 (0 or 1), no /masked, no sha256, no offsets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/json.hpp"
#include "data/tile.hpp"
#include "settings/feature_type.hpp"

namespace filo {

struct FeatureLayout {
  int global_size = 768;        // C
  int patches = 1369;           // P
  int width = 1024;             // C_v
  std::vector<int> qkv_layers;  // ascending
  std::vector<int> vv_layers;   // ascending
  int mask_size = 518;          // S
  FeatureType type = FeatureType::f16;
  // Maps that are another one ("vv/12": "qkv/6"), which alone is stored; in the layout only where there are some.
  std::map<std::string, std::string> same_as{};
  int format = 2;
  bool operator==(const FeatureLayout&) const = default;
};
Json to_json(const FeatureLayout& layout);
// Throws Error naming `where` and the key; sizes are 1 to 65536, masks to 16384. Without a type it is of format 1.
FeatureLayout feature_layout_from_json(const Json& json, const std::string& where);

// What a sample shows of an image.
struct ImagePart {
  std::string image;  // path relative to the data set's root
  int image_width = 0, image_height = 0;
  Tile tile;
  bool operator==(const ImagePart&) const = default;
};

struct SampleInfo {
  std::string image;  // the sample's name: the image's path relative to the data set's root, or as
                      // data/samples/samples.hpp says
  std::string class_name;
  int label = 0;      // 1: anomalous
  std::string split;  // "train" or "test"
  std::string defect;
  // Whether its anomalous pixels are known: a mask is there, or the image is normal. Else its mask is all 0.
  bool masked = true;
  std::optional<std::string> boxes;  // JSON, as data/boxes reads it
  std::vector<ImagePart> parts;      // none: the image as it is; one: a tile; four: a mosaic, row by row
  std::size_t folder = 0;            // of those that a reader opened
};

// A map of one image in the layout's type.
struct FeatureMap {
  std::vector<std::byte> values;  // [P, C_v]
  std::vector<float> scales;      // [P] with int8, else empty
  bool operator==(const FeatureMap&) const = default;
};

struct FeatureSample : SampleInfo {
  std::vector<float> global;       // [C]
  std::map<int, FeatureMap> qkv;   // by layer
  std::map<int, FeatureMap> vv;    // likewise
  std::vector<std::uint8_t> mask;  // [S, S], 0 or 1
};

// Of what is to be read; the rest is left out.
struct Parts {
  bool global = true;
  bool maps = true;  // qkv and vv
  bool mask = true;
};

// A shard whose bytes are not those that were written: the same file is read wrong again and again.
class ShardDamage : public Error {
 public:
  ShardDamage(const std::string& where, const std::string& problem, std::string shard)
      : Error(where, problem), shard_(std::move(shard)) {}
  const std::string& shard() const { return shard_; }  // its file

 private:
  std::string shard_;
};

}  // namespace filo
