#include "data/samples/samples.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

// Six images of class cup, 300 x 100, each of one grey; those of an odd number have a defect of 8 x 8 pixels at
// (200, 40), and a mask but for number 5.
class SampleTest : public ::testing::Test {
 protected:
  SampleTest() : root_(fs::temp_directory_path() / ("filo-samples-" + std::to_string(getpid()))) {
    fs::create_directories(root_);
    dataset_.name = "cups";
    dataset_.root = root_;
    for (int i = 0; i < 6; ++i) {
      const std::string name = std::to_string(i) + ".png";
      write_png(root_ / name, Image(300, 100, 1, static_cast<std::uint8_t>(40 * i)));
      DatasetImage entry;
      entry.path = name;
      entry.class_name = "cup";
      entry.split = "test";
      entry.label = i % 2;
      entry.defect = i % 2 != 0 ? "crack" : "good";
      entry.width = 300, entry.height = 100;
      if (i == 1 || i == 3) {
        Image mask(300, 100, 1);
        for (int y = 40; y < 48; ++y)
          for (int x = 200; x < 208; ++x) mask.pixels[mask.offset(x, y)] = 255;
        write_png(root_ / ("mask" + name), mask);
        entry.mask = "mask" + name;
      }
      dataset_.images.push_back(entry);
    }
  }
  ~SampleTest() override { fs::remove_all(root_); }

  fs::path root_;
  Dataset dataset_;
  static constexpr TilingSettings tiles_ = {.size = 100, .overlap = 0};
};

TEST_F(SampleTest, WholeImagesAreSamples) {
  const auto samples = samples_of(dataset_, {});
  ASSERT_EQ(samples.size(), 6u);
  EXPECT_EQ(samples[1].image, "1.png");
  EXPECT_TRUE(samples[1].parts.empty());
  EXPECT_FALSE(samples[5].masked);
  EXPECT_TRUE(is_label_known(samples[5])) << "the image is anomalous, wherever";
  SampleDecoder decoder(dataset_, 70, 2);
  EXPECT_EQ(decoder.decode(samples[5]).info.label, 1);
}

// Guards what a tile is taken for: only the tile that shows the defect is anomalous, and of an image without a mask
// nobody knows which one it is.
TEST_F(SampleTest, ATileHasALabelOfItsOwn) {
  const auto samples = samples_of(dataset_, tiles_);
  ASSERT_EQ(samples.size(), 18u);
  EXPECT_EQ(samples[5].image, "1.png#xywh=200,0,100,100");
  SampleDecoder decoder(dataset_, 70, 2);
  for (const std::size_t i : {3, 4, 5}) {
    const DecodedSample found = decoder.decode(samples[i]);
    const bool defective = i == 5;
    EXPECT_EQ(found.info.label, defective ? 1 : 0);
    EXPECT_EQ(found.info.defect, defective ? "crack" : "good");
    EXPECT_EQ(found.image.width, 100);
    EXPECT_EQ(std::ranges::count(found.mask, 1) > 0, defective);
    EXPECT_TRUE(is_label_known(found.info));
  }
  EXPECT_FALSE(is_label_known(decoder.decode(samples[15]).info));
}

// Guards what tiles are for: a defect that the resize of the whole image wipes out is still there in a tile.
TEST_F(SampleTest, ASmallDefectSurvivesInATile) {
  dataset_.images.resize(2);
  dataset_.images.erase(dataset_.images.begin());
  SampleDecoder decoder(dataset_, 14, 2);  // 21 pixels of the image to one, 7 to one of a tile
  EXPECT_EQ(std::ranges::count(decoder.decode(samples_of(dataset_, {})[0]).mask, 1), 0);
  EXPECT_GT(std::ranges::count(decoder.decode(samples_of(dataset_, tiles_)[2]).mask, 1), 0);
}

// Guards mosaics: four images that differ, quarter by quarter; the masks and labels with them; the same every time, and
// more variants begin with fewer.
TEST_F(SampleTest, AMosaicShowsFourImages) {
  const auto mosaics = mosaics_of(dataset_, {}, 8);
  ASSERT_EQ(mosaics.size(), 8u);
  EXPECT_EQ(mosaics[7].image, "cup#mosaic=7");
  SampleDecoder decoder(dataset_, 80, 6);
  std::set<std::vector<std::string>> drawn;
  for (const SampleInfo& mosaic : mosaics) {
    const auto images = images_of(mosaic);
    drawn.insert(images);
    ASSERT_EQ(images.size(), 4u);
    EXPECT_EQ(std::set(images.begin(), images.end()).size(), 4u);
    const DecodedSample found = decoder.decode(mosaic);
    EXPECT_EQ(found.image.width, 600);
    EXPECT_EQ(found.image.height, 200);
    bool anomalous = false, masked = true;
    for (std::size_t i = 0; i < 4; ++i) {
      const int number = images[i][0] - '0', x = i % 2 == 0 ? 0 : 300, y = i < 2 ? 0 : 100;
      EXPECT_EQ(found.image.pixels[found.image.offset(x + 150, y + 50)], 40 * number);
      const bool has_mask = number == 1 || number == 3;
      // (200, 40) to (208, 48) of 300 x 100, in a quarter of 40 x 40.
      EXPECT_EQ(found.mask[static_cast<std::size_t>((i < 2 ? 0 : 40) + 17) * 80 + (i % 2) * 40 + 27], has_mask ? 1 : 0);
      anomalous = anomalous || number % 2 == 1;
      masked = masked && number != 5;
    }
    EXPECT_EQ(found.info.label, anomalous ? 1 : 0);
    EXPECT_EQ(found.info.masked, masked);
  }
  EXPECT_GT(drawn.size(), 4u);
  const auto fewer = mosaics_of(dataset_, {}, 3);
  for (std::size_t i = 0; i < fewer.size(); ++i) EXPECT_EQ(fewer[i].parts, mosaics[i].parts);

  dataset_.images.resize(3);
  EXPECT_TRUE(mosaics_of(dataset_, {}, 3).empty());
}

// Guards boxes: those of what is shown, where it is shown.
TEST_F(SampleTest, BoxesFollowTheirPixels) {
  const std::map<std::string, std::vector<Box>> boxes = {{"1.png", {{.x0 = 0.6f, .y0 = 0.2f, .x1 = 0.8f, .y1 = 0.5f}}}};
  const auto samples = samples_of(dataset_, tiles_);
  const auto expect_box = [](const std::vector<Box>& found, const std::vector<float>& corners) {
    ASSERT_EQ(found.size(), 1u);
    const float has[] = {found[0].x0, found[0].y0, found[0].x1, found[0].y1};
    for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(has[i], corners[i], 1e-5f) << i;
  };
  EXPECT_TRUE(boxes_of_sample(boxes, samples[3]).empty()) << "from pixel 180 to 240, and a tile to pixel 100";
  expect_box(boxes_of_sample(boxes, samples[4]), {0.8f, 0.2f, 1.0f, 0.5f});
  expect_box(boxes_of_sample(boxes, samples[5]), {0.0f, 0.2f, 0.4f, 0.5f});
  for (const SampleInfo& mosaic : mosaics_of(dataset_, {}, 8)) {
    const auto images = images_of(mosaic);
    const auto at = std::ranges::find(images, "1.png") - images.begin();
    if (at == 4) continue;
    const float left = at % 2 == 0 ? 0.0f : 0.5f, top = at < 2 ? 0.0f : 0.5f;
    expect_box(boxes_of_sample(boxes, mosaic), {left + 0.3f, top + 0.1f, left + 0.4f, top + 0.25f});
  }
}

TEST_F(SampleTest, AnImageThatChangedIsRefused) {
  write_png(root_ / "0.png", Image(200, 100, 1));
  SampleDecoder decoder(dataset_, 70, 2);
  const auto samples = samples_of(dataset_, tiles_);
  EXPECT_THROW(decoder.decode(samples[0]), Error);
  EXPECT_THROW(decoder.decode(samples[1]), Error) << "who asks for a held one too";
}

}  // namespace
}  // namespace filo
