// The anomaly maps and masks of a class's images: in memory where they fit, else in a temporary file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "base/files.hpp"

namespace filo {

// Where a class's maps may lie. The limit is of a class's maps and what its metrics are made with, together.
struct MapsStorage {
  std::size_t memory_bytes = std::size_t{512} << 20;
  std::filesystem::path folder{};  // of the temporary file; made where it is not there
};

// [images, height, width] scores and masks. Movable. put() from one thread; what is const from several.
class AnomalyMaps {
 public:
  AnomalyMaps() = default;  // of no images
  // Three quarters of the memory may be taken; the file has no name, so that it is gone with this object and with the
  // process, however that ends. Throws Error where the disk has not as much room, before there is anything to put.
  AnomalyMaps(std::size_t images, std::size_t height, std::size_t width, const MapsStorage& storage = {});

  // An image's, once, in any order. `name` is for messages. Throws Error on wrong sizes, a NaN, a mask other than 0 and
  // 1, a full disk.
  void put(std::size_t image, std::span<const float> map, std::span<const std::uint8_t> mask, const std::string& name);

  struct Image {
    std::span<const float> map;
    std::span<const std::uint8_t> mask;
  };
  struct Buffer {
    std::vector<float> map;
    std::vector<std::uint8_t> mask;
  };
  // Valid as long as `buffer` and this are. Throws Error.
  Image read(std::size_t image, Buffer& buffer) const;

  std::size_t images() const { return defects_.size(); }
  std::size_t height() const { return height_; }
  std::size_t width() const { return width_; }
  std::size_t area() const { return height_ * width_; }
  std::size_t defect_pixels(std::size_t image) const { return defects_[image]; }
  // Of all scores so far.
  float lowest() const { return lowest_; }
  float highest() const { return highest_; }

  bool is_spilled() const { return file_.valid(); }
  std::size_t working_bytes() const;  // what the limit leaves to those who read

  // What a class of so many images will take: the first of memory, the second of the disk.
  static std::size_t held_bytes(std::size_t images, std::size_t area, std::size_t memory_bytes);
  static std::size_t spilled_bytes(std::size_t images, std::size_t area, std::size_t memory_bytes);

 private:
  std::size_t height_ = 0, width_ = 0;
  std::size_t memory_bytes_ = 0;
  std::vector<std::uint32_t> defects_;  // pixels of each image
  float lowest_ = std::numeric_limits<float>::infinity(), highest_ = -std::numeric_limits<float>::infinity();
  std::vector<float> maps_;  // empty where spilled
  std::vector<std::uint8_t> masks_;
  FileDescriptor file_;  // image after image: its map, its mask
  std::filesystem::path folder_;
};

}  // namespace filo
