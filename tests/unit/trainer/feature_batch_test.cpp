#include "trainer/feature_batch.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace filo {
namespace {

constexpr std::uint16_t half_one = 0x3C00, half_minus_two = 0xC000, half_third = 0x3555;  // binary16 bits

const FeatureLayout layout{
    .global_size = 2, .patches = 4, .width = 3, .qkv_layers = {2, 4}, .vv_layers = {4}, .mask_size = 2};

FeatureSample sample_of(const std::string& image, int label, std::uint16_t bits, std::size_t folder = 0) {
  FeatureSample sample;
  sample.image = image;
  sample.class_name = image.substr(0, image.find('/'));
  sample.label = label;
  sample.folder = folder;
  sample.global = {static_cast<float>(label), -1.5f};
  for (auto* patches : {&sample.qkv[2], &sample.qkv[4], &sample.vv[4]}) patches->assign(std::size_t{4} * 3, bits);
  sample.qkv[4][5] = half_third;  // patch 1, channel 2
  sample.mask = {0, 1, 0, static_cast<std::uint8_t>(label)};
  return sample;
}

const Box box{0.1f, 0.2f, 0.3f, 0.4f, 0.9f, "flaw"};

TEST(FeatureBatch, EachSampleStandsAtItsPlace) {
  // Guards shapes, the order of samples and patches, and that float16 bits become the float32 numbers they stand for.
  const FeatureBatch batch = make_batch(
      {sample_of("nut/1.png", 1, half_one), sample_of("cup/2.png", 0, half_minus_two)}, layout, {std::nullopt});
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

TEST(FeatureBatch, BoxesAreThoseOfTheSamplesOwnFolder) {
  // Guards trainings on several data sets, whose images may have equal paths.
  const std::vector<ImageBoxes> boxes = {std::map<std::string, std::vector<Box>>{{"nut/1.png", {box}}},
                                         std::map<std::string, std::vector<Box>>{{"nut/1.png", {box, box}}}};
  const FeatureBatch batch = make_batch({sample_of("nut/1.png", 1, half_one, 1), sample_of("nut/1.png", 1, half_one, 0),
                                         sample_of("nut/2.png", 0, half_one, 0)},
                                        layout, boxes);
  ASSERT_EQ(batch.images.boxes.size(), 3u);
  EXPECT_EQ(batch.images.boxes[0].size(), 2u);
  EXPECT_EQ(batch.images.boxes[1].size(), 1u);
  EXPECT_TRUE(batch.images.boxes[2].empty());  // a source that found nothing there
}

TEST(FeatureBatch, WithoutASourceOfBoxesThereAreNoLists) {
  // Guards the difference between "no box was found" and "nobody looked", which suppression acts on.
  EXPECT_TRUE(make_batch({sample_of("nut/1.png", 1, half_one)}, layout, {std::nullopt}).images.boxes.empty());
  EXPECT_TRUE(boxes_of_image(std::nullopt, "nut/1.png").empty());
}

}  // namespace
}  // namespace filo
