// What a features stage encodes of a data set: its images, tiles of large ones, and mosaics of four. A sample is named
// after what it shows: "cup/crack/000.png", "cup/crack/000.png#xywh=0,768,1024,1024" (as W3C Media Fragments name part
// of an image), "cup#mosaic=7".
#pragma once

#include <cstddef>
#include <deque>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/boxes.hpp"
#include "data/datasets/dataset.hpp"
#include "data/images/tiles.hpp"
#include "data/shards/shards.hpp"
#include "settings/model.hpp"

namespace filo {

// The test split, in the data set's order. An image that is cut has a sample for each tile, with the image's label:
// decode() knows the tile's own.
std::vector<SampleInfo> samples_of(const Dataset& dataset, const TilingSettings& tiling);

// `variants` of each class that has four of those, of four that differ, drawn by the class's name alone: more variants
// begin with fewer.
std::vector<SampleInfo> mosaics_of(const Dataset& dataset, const TilingSettings& tiling, int variants);

// A tile of an image; of the whole of it the image.
SampleInfo tile_sample(const std::string& image, ImageSize size, const Tile& tile);

// The images that a sample shows, its own name where it is one.
std::vector<std::string> images_of(const SampleInfo& sample);
// Whether it shows less of an image than all.
bool is_cut(const SampleInfo& sample);
// A part of an anomalous image without a mask may be normal: nothing can be learned from it.
inline bool is_label_known(const SampleInfo& sample) { return sample.masked || !is_cut(sample); }

// The boxes of what a sample shows, relative to it. `boxes`: by image.
std::vector<Box> boxes_of_sample(const std::map<std::string, std::vector<Box>>& boxes, const SampleInfo& sample);

struct DecodedSample {
  SampleInfo info;  // label, defect and masked as the pixels say
  Image image;
  std::vector<std::uint8_t> mask;  // [S, S] as preprocess_mask() makes it; 0 where nothing is known
};

// Decodes what samples show. Images that are cut are held for their next tiles. Thread-safe.
class SampleDecoder {
 public:
  // `held`: so many images at most. `dataset` outlives this.
  SampleDecoder(const Dataset& dataset, int image_size, std::size_t held);
  DecodedSample decode(const SampleInfo& sample);  // throws Error that names the file

 private:
  struct Picture {
    Image image;
    std::optional<Image> mask;
  };
  using SharedPicture = std::shared_ptr<const Picture>;

  Picture read(const DatasetImage& entry) const;
  SharedPicture held(const DatasetImage& entry);

  const Dataset& dataset_;
  const int image_size_;
  const std::size_t most_held_;
  std::map<std::string, const DatasetImage*> entries_;
  std::mutex mutex_;
  std::deque<std::pair<std::string, std::shared_future<SharedPicture>>> held_;
};

}  // namespace filo
