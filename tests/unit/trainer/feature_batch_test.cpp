#include "trainer/feature_batch.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstring>
#include <filesystem>

#include "data/shards/shard_writer.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

constexpr std::uint16_t half_one = 0x3C00, half_minus_two = 0xC000, half_third = 0x3555;  // binary16 bits

const FeatureLayout layout{
    .global_size = 2, .patches = 4, .width = 3, .qkv_layers = {2, 4}, .vv_layers = {4}, .mask_size = 2};

template <typename Value>
FeatureMap map_of(const std::vector<Value>& values, std::vector<float> scales = {}) {
  FeatureMap map{.values = std::vector<std::byte>(values.size() * sizeof(Value)), .scales = std::move(scales)};
  std::memcpy(map.values.data(), values.data(), map.values.size());
  return map;
}

FeatureSample sample_of(const std::string& image, int label, std::uint16_t bits) {
  FeatureSample sample;
  sample.image = image;
  sample.class_name = image.substr(0, image.find('/'));
  sample.label = label;
  sample.global = {static_cast<float>(label), -1.5f};
  std::vector<std::uint16_t> patches(std::size_t{4} * 3, bits);
  for (auto* map : {&sample.qkv[2], &sample.vv[4]}) *map = map_of(patches);
  patches[5] = half_third;  // patch 1, channel 2
  sample.qkv[4] = map_of(patches);
  sample.mask = {0, 1, 0, static_cast<std::uint8_t>(label)};
  return sample;
}

// The samples of each folder, one folder after another, read back as one block.
FeatureBlock block_of(const std::vector<std::vector<FeatureSample>>& folders, const FeatureLayout& of = layout) {
  std::string name = (fs::temp_directory_path() / "filo_batch_XXXXXX").string();
  const fs::path root = mkdtemp(name.data());
  std::vector<fs::path> paths;
  for (const auto& samples : folders) {
    paths.push_back(root / std::to_string(paths.size()));
    ShardWriter writer(paths.back(), of, Json::object(), "0");
    std::vector<std::string> images;
    for (const FeatureSample& sample : samples) {
      writer.append(sample);
      images.push_back(sample.image);
    }
    writer.close();
    finish_features(paths.back(), of, Json::object(), images, writer.finished());
  }
  const ShardReader reader(paths);
  std::vector<std::size_t> all(reader.size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  FeatureBlock block = reader.read(all);
  fs::remove_all(root);
  return block;
}

const Box box{0.1f, 0.2f, 0.3f, 0.4f, 0.9f, "flaw"};

TEST(FeatureBatch, EachSampleStandsAtItsPlace) {
  // Guards shapes, the order of samples and patches, and that float16 bits become the float32 numbers they stand for.
  const FeatureBatch batch =
      make_batch(block_of({{sample_of("nut/1.png", 1, half_one), sample_of("cup/2.png", 0, half_minus_two)}}), layout,
                 {std::nullopt});
  EXPECT_EQ(batch.images.classes, (std::vector<std::string>{"nut", "cup"}));
  EXPECT_TRUE(torch::equal(batch.images.global, torch::tensor({{1.0f, -1.5f}, {0.0f, -1.5f}})));
  torch::Tensor expected = torch::cat({torch::full({1, 4, 3}, 1.0f), torch::full({1, 4, 3}, -2.0f)});
  EXPECT_TRUE(torch::equal(batch.images.qkv.at(2), expected));
  EXPECT_TRUE(torch::equal(batch.images.vv.at(4), expected));
  expected.index_put_({torch::indexing::Slice(), 1, 2}, 0.333251953125f);  // the float16 next to a third
  EXPECT_TRUE(torch::equal(batch.images.qkv.at(4), expected));
  EXPECT_EQ(batch.images.qkv.at(4).scalar_type(), torch::kFloat);
  EXPECT_FALSE(batch.images.vv.contains(2));
  EXPECT_TRUE(torch::equal(batch.masks, torch::tensor({{{0.0f, 1.0f}, {0.0f, 1.0f}}, {{0.0f, 1.0f}, {0.0f, 0.0f}}})));
  EXPECT_TRUE(torch::equal(batch.labels, torch::tensor({1, 0}, torch::kInt64)));
  EXPECT_FALSE(batch.images.frozen.defined());
}

TEST(FeatureBatch, IntegersAreMultipliedByTheirPatchsScale) {
  FeatureLayout small = layout;
  small.type = FeatureType::int8;
  FeatureSample sample = sample_of("nut/1.png", 1, half_one);
  const FeatureMap map =
      map_of(std::vector<std::int8_t>{1, -127, 0, 2, 3, 4, 5, 6, 7, -8, 9, 127}, {0.5f, 1, 2, 0.25f});
  for (auto* layer : {&sample.qkv[2], &sample.qkv[4], &sample.vv[4]}) *layer = map;
  const FeatureBatch batch = make_batch(block_of({{sample}}, small), small, {std::nullopt});
  const torch::Tensor expected =
      torch::tensor({0.5f, -63.5f, 0.0f, 2.0f, 3.0f, 4.0f, 10.0f, 12.0f, 14.0f, -2.0f, 2.25f, 31.75f}).view({1, 4, 3});
  EXPECT_TRUE(torch::equal(batch.images.vv.at(4), expected));
}

TEST(FeatureBatch, BoxesAreThoseOfTheSamplesOwnFolder) {
  // Guards trainings on several data sets, whose images may have equal paths.
  const std::vector<ImageBoxes> boxes = {std::map<std::string, std::vector<Box>>{{"nut/1.png", {box}}},
                                         std::map<std::string, std::vector<Box>>{{"nut/1.png", {box, box}}}};
  const FeatureBatch batch =
      make_batch(block_of({{sample_of("nut/1.png", 1, half_one), sample_of("nut/2.png", 0, half_one)},
                           {sample_of("nut/1.png", 1, half_one)}}),
                 layout, boxes);
  ASSERT_EQ(batch.images.boxes.size(), 3u);
  EXPECT_EQ(batch.images.boxes[0].size(), 1u);
  EXPECT_TRUE(batch.images.boxes[1].empty());  // a source that found nothing there
  EXPECT_EQ(batch.images.boxes[2].size(), 2u);
}

TEST(FeatureBatch, WithoutASourceOfBoxesThereAreNoLists) {
  // Guards the difference between "no box was found" and "nobody looked", which suppression acts on.
  EXPECT_TRUE(
      make_batch(block_of({{sample_of("nut/1.png", 1, half_one)}}), layout, {std::nullopt}).images.boxes.empty());
}

}  // namespace
}  // namespace filo
