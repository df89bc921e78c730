// A small layout, samples of it, and a folder that gets their shards. Included by one source for each program.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/random.hpp"
#include "data/shards/shard_reader.hpp"
#include "data/shards/shard_writer.hpp"

namespace filo {

namespace fs = std::filesystem;

inline const FeatureLayout layout{
    .global_size = 12, .patches = 16, .width = 24, .qkv_layers = {2, 4}, .vv_layers = {4}, .mask_size = 33};
inline const Json key = {{"clip", "abc"}, {"profile", "paper"}};
constexpr std::size_t map_bytes = std::size_t{16} * 24 * 2, mask_bytes = (std::size_t{33} * 33 + 7) / 8;
constexpr std::size_t sample_bytes = std::size_t{48} + 3 * map_bytes + mask_bytes;

inline FeatureSample sample_of(std::size_t number, FeatureType type = FeatureType::f16) {
  Random random(1, "sample", number);
  FeatureSample sample;
  sample.image = "bottle/test/" + std::to_string(number) + ".png";
  sample.class_name = "bottle";
  sample.label = static_cast<int>(number % 2);
  sample.split = number % 3 == 0 ? "train" : "test";
  sample.defect = number % 2 != 0 ? "crack" : "";
  sample.masked = number % 5 != 1;
  if (number % 2 != 0) sample.boxes = R"([{"box": [1, 2, 3, 4]}])";
  sample.global.resize(12);
  for (float& value : sample.global) value = static_cast<float>(random.normal());
  const std::size_t value_bytes = type == FeatureType::f32 ? 4 : type == FeatureType::int8 ? 1 : 2;
  for (auto* map : {&sample.qkv[2], &sample.qkv[4], &sample.vv[4]}) {
    map->values.resize(map_bytes / 2 * value_bytes);
    for (auto& byte : map->values) byte = static_cast<std::byte>(random.next());
    if (type == FeatureType::int8) map->scales.assign(16, static_cast<float>(random.normal()));
  }
  sample.mask.resize(std::size_t{33} * 33);
  for (auto& value : sample.mask) value = static_cast<std::uint8_t>(random.below(2));
  return sample;
}

inline void expect_equal(const FeatureBlock& found, std::size_t place, const FeatureSample& expected) {
  const SampleInfo& info = found.samples()[place];
  EXPECT_EQ(info.image, expected.image);
  EXPECT_EQ(info.class_name, expected.class_name);
  EXPECT_EQ(info.label, expected.label);
  EXPECT_EQ(info.split, expected.split);
  EXPECT_EQ(info.defect, expected.defect);
  EXPECT_EQ(info.masked, expected.masked);
  EXPECT_EQ(info.boxes, expected.boxes);
  EXPECT_EQ(std::vector<float>(found.global() + place * 12, found.global() + (place + 1) * 12), expected.global);
  for (const bool vv : {false, true})
    for (const auto& [layer, map] : vv ? expected.vv : expected.qkv) {
      const std::size_t bytes = map.values.size();
      const std::byte* values = found.map(vv, layer);
      EXPECT_EQ(std::vector<std::byte>(values + place * bytes, values + (place + 1) * bytes), map.values);
      const float* scales = found.scales(vv, layer);
      EXPECT_EQ(scales == nullptr, map.scales.empty());
      if (scales != nullptr) {
        EXPECT_EQ(std::vector<float>(scales + place * 16, scales + (place + 1) * 16), map.scales);
      }
    }
  std::vector<std::uint8_t> mask(expected.mask.size());
  found.mask(place, mask);
  EXPECT_EQ(mask, expected.mask);
}

inline void expect_equal(const FeatureBlock& found, const FeatureSample& expected) { expect_equal(found, 0, expected); }

inline std::vector<std::string> names(std::size_t count) {
  std::vector<std::string> images;
  for (std::size_t i = 0; i < count; ++i) images.push_back(sample_of(i).image);
  return images;
}

template <typename Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

class ShardTest : public testing::Test {
 protected:
  ShardTest() {
    std::string name = (fs::temp_directory_path() / "filo_shards_XXXXXX").string();
    folder = fs::path(mkdtemp(name.data())) / "features";
  }
  ~ShardTest() override { fs::remove_all(folder.parent_path()); }

  void write(std::size_t begin, std::size_t end, std::size_t step = 1, int rank = 0) const {
    ShardWriter writer(folder, layout, key, std::to_string(rank), 3 * sample_bytes);
    for (std::size_t i = begin; i < end; i += step) writer.append(sample_of(i));
    writer.close();
  }
  // Every shard that is there, looked at; all of them sound.
  std::vector<ShardFile> sound_shards(const Json& of = key) const {
    std::vector<ShardFile> shards;
    for (const std::string& name : shard_names(folder))
      if (auto file = check_shard(folder / name, layout, of)) shards.push_back(*std::move(file));
    return shards;
  }
  std::vector<std::string> finished_images() const {
    std::vector<std::string> images;
    for (const ShardFile& file : sound_shards()) images.insert(images.end(), file.images.begin(), file.images.end());
    return images;
  }
  void finish(std::size_t count) const { finish_features(folder, layout, key, names(count), sound_shards()); }
  void write_finished(std::size_t count) const {
    write(0, count);
    finish(count);
  }
  std::vector<std::string> files() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(folder)) found.push_back(entry.path().filename().string());
    return found;
  }
  void overwrite(const fs::path& path, std::string_view bytes) const {
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  void flip_byte(const fs::path& path, std::uint64_t offset) const {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    const char byte = static_cast<char>(file.get() ^ 0x40);
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(byte);
  }

  fs::path folder;
};

}  // namespace filo
