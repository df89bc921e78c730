// Guards data/images/image.hpp against hostile files and wrong arithmetic; equality with Pillow is
// tests/parity/images.py's.
#include "data/images/image.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <limits>

#include "base/error.hpp"
#include "base/files.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

class ImageTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("filo-image-test-" + std::to_string(getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path write(const std::string& name, std::string_view bytes) const {
    const fs::path path = folder_ / name;
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

  fs::path folder_;
};

Image gradient(int width, int height, int channels) {
  Image image(width, height, channels);
  for (std::size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<std::uint8_t>(i * 7);
  return image;
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string little_endian(std::uint64_t value, int bytes) {
  std::string result;
  for (int i = 0; i < bytes; ++i, value >>= 8) result.push_back(static_cast<char>(value & 0xff));
  return result;
}

std::string bmp(std::uint32_t width, std::uint32_t height, std::uint32_t bits, std::uint32_t compression,
                std::uint32_t colors, const std::string& body) {
  return "BM" + little_endian(0, 8) + little_endian(54, 4) + little_endian(40, 4) + little_endian(width, 4) +
         little_endian(height, 4) + little_endian(1, 2) + little_endian(bits, 2) + little_endian(compression, 4) +
         little_endian(0, 12) + little_endian(colors, 4) + little_endian(0, 4) + body;
}

TEST_F(ImageTest, WrittenPngIsReadBackBitForBit) {
  for (const int channels : {1, 3}) {
    const Image image = gradient(13, 7, channels);
    write_png(folder_ / "image.png", image);
    const Image again = decode_image(folder_ / "image.png");
    EXPECT_EQ(again.channels, channels);
    EXPECT_EQ(again.pixels, image.pixels);
    EXPECT_EQ(read_image_size(folder_ / "image.png"), (ImageSize{13, 7}));
  }
}

TEST_F(ImageTest, FormatIsTakenFromTheContentNotTheSuffix) {
  write("photo.jpg", encode_png(gradient(5, 4, 3)));
  EXPECT_EQ(decode_image(folder_ / "photo.jpg").width, 5);
}

// Every prefix of a valid file must give an error that names the file: no crash, no half image.
TEST_F(ImageTest, TruncatedFilesAreErrorsThatNameTheFile) {
  const std::string png = encode_png(gradient(24, 24, 3));
  for (std::size_t size = 0; size + 12 < png.size(); size += 5) {
    const std::string message = error_of([&] { decode_image(std::string_view(png).substr(0, size), "cut.png"); });
    EXPECT_THAT(message, testing::HasSubstr("cut.png")) << size;
  }
  const std::string whole = bmp(3, 2, 24, 0, 0, std::string(24, 'x'));
  EXPECT_EQ(decode_image(whole, "whole.bmp").height, 2);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::string message = error_of([&] { decode_image(std::string_view(whole).substr(0, size), "cut.bmp"); });
    EXPECT_THAT(message, testing::HasSubstr("cut.bmp")) << size;
  }
}

// A JPEG header that announces rows which never come must not be filled up with grey.
TEST_F(ImageTest, TruncatedJpegIsAnError) {
  // A grey 8 x 8 JPEG, smallest baseline tables: quantisation of ones, one DC and one AC code.
  std::string jpeg = "\xff\xd8";
  jpeg += std::string("\xff\xdb\x00\x43\x00", 5) + std::string(64, '\x01');
  jpeg += std::string("\xff\xc0\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00", 13);
  jpeg += std::string("\xff\xc4\x00\x14\x00\x01", 6) + std::string(15, '\0') + std::string(1, '\0');
  jpeg += std::string("\xff\xc4\x00\x14\x10\x01", 6) + std::string(15, '\0') + std::string(1, '\0');
  jpeg += std::string("\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00", 10);
  const std::string whole = jpeg + "\x3f\xff\xd9";  // bits 00: DC 0, end of block
  const Image image = decode_image(whole, "grey.jpg");
  EXPECT_EQ(image.pixels, std::vector<std::uint8_t>(64, 128));
  for (std::size_t size = 3; size < jpeg.size() + 1; ++size)
    EXPECT_THAT(error_of([&] { decode_image(std::string_view(whole).substr(0, size), "cut.jpg"); }),
                testing::HasSubstr("cut.jpg"))
        << size;
}

TEST_F(ImageTest, HugeClaimedSizesAreRefusedBeforeMemoryIsTaken) {
  std::string png = encode_png(gradient(4, 4, 3));
  png.replace(16, 8, std::string("\x7f\xff\xff\xff\x7f\xff\xff\xff", 8));
  EXPECT_THAT(error_of([&] { decode_image(png, "huge.png"); }),
              testing::HasSubstr("expected at most 500000000 in all"));
  png.replace(16, 8, std::string("\x00\x00\x4e\x20\x00\x00\x4e\x20", 8));  // 20000 x 20000 in a few bytes
  EXPECT_THAT(error_of([&] { decode_image(png, "bomb.png"); }), testing::HasSubstr("cannot hold 20000 x 20000 pixels"));
  const std::string claims = bmp(20000, 20000, 24, 0, 0, "xxxx");
  EXPECT_THAT(error_of([&] { decode_image(claims, "huge.bmp"); }), testing::HasSubstr("cannot hold"));
  const std::string lowest = bmp(2, 0x80000000u, 24, 0, 0, "xxxx");
  EXPECT_THAT(error_of([&] { decode_image(lowest, "lowest.bmp"); }), testing::HasSubstr("lowest.bmp"));
}

TEST_F(ImageTest, BitmapsThatCannotBeReadSayWhy) {
  const auto message = [](const std::string& bytes) { return error_of([&] { decode_image(bytes, "a.bmp"); }); };
  EXPECT_THAT(message(bmp(4, 4, 8, 1, 0, "")), testing::HasSubstr("RLE"));
  EXPECT_THAT(message(bmp(4, 4, 7, 0, 0, "")), testing::HasSubstr("7 bits a pixel"));
  EXPECT_THAT(message(bmp(4, 4, 8, 0, 257, "")), testing::HasSubstr("257 palette entries"));
  EXPECT_THAT(message(bmp(0, 4, 24, 0, 0, "")), testing::HasSubstr("0 x 4 pixels"));
  // A palette of one entry, and pixels that point behind it.
  std::string bytes = bmp(1, 1, 8, 0, 1, std::string("\x01\x02\x03\x00", 4) + std::string("\x05\0\0\0", 4));
  bytes.replace(10, 4, little_endian(58, 4));
  EXPECT_THAT(message(bytes), testing::HasSubstr("palette index 5"));
}

TEST_F(ImageTest, FilesThatAreNoImagesSayWhatWasExpected) {
  write("notes.txt", "hello");
  EXPECT_THAT(error_of([&] { decode_image(folder_ / "notes.txt"); }),
              testing::HasSubstr("is not a PNG, JPEG, BMP or TIFF"));
  write("empty.png", "");
  EXPECT_THAT(error_of([&] { decode_image(folder_ / "empty.png"); }), testing::HasSubstr("is empty"));
  EXPECT_THAT(error_of([&] { decode_image(folder_ / "absent.png"); }), testing::HasSubstr("no such file"));
  EXPECT_THAT(error_of([&] { decode_image(folder_); }), testing::HasSubstr("not a regular file"));
}

// Random bytes behind a valid signature: the decoders must end with an image or an Error. (Worth most under asan.)
TEST_F(ImageTest, DamagedFilesNeverCrash) {
  const std::string originals[] = {encode_png(gradient(20, 20, 3)), bmp(6, 6, 24, 0, 0, std::string(120, 'p')),
                                   bmp(6, 6, 4, 0, 16, std::string(120, 'p'))};
  unsigned state = 1;
  for (const std::string& original : originals)
    for (int round = 0; round < 300; ++round) {
      std::string damaged = original;
      for (int i = 0; i < 3; ++i) {
        state = state * 1664525u + 1013904223u;
        damaged[2 + (state >> 8) % (std::min<std::size_t>(damaged.size(), 80) - 2)] = static_cast<char>(state >> 24);
      }
      try {
        const Image image = decode_image(damaged, "damaged");
        EXPECT_EQ(image.pixels.size(), static_cast<std::size_t>(image.width * image.height * image.channels));
      } catch (const Error& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr("damaged"));
      }
    }
}

TEST_F(ImageTest, RangesOfGreyAreTwoNumbersInOrder) {
  EXPECT_EQ(grey16_range_from("16:4095"), (Grey16Range{16, 4095}));
  for (const char* bad : {"", "4095", "4095:0", "5:5", "0:65536", "-1:5", "0:", ":5", "0:4095:", "a:b", "0:999999"})
    EXPECT_THAT(error_of([&] { grey16_range_from(bad); }), testing::HasSubstr("expected LOW:HIGH")) << bad;
}

TEST_F(ImageTest, PreprocessNormalisesWithClipsMeanAndDeviation) {
  const std::vector<float> white = preprocess_clip(Image(30, 50, 1, 255), 14);
  ASSERT_EQ(white.size(), 3u * 14 * 14);
  EXPECT_FLOAT_EQ(white.front(), (1 - 0.48145466f) / 0.26862954f);
  EXPECT_FLOAT_EQ(white.back(), (1 - 0.40821073f) / 0.27577711f);
  EXPECT_THROW(preprocess_clip(Image(2, 2, 3), 0), Error);
}

TEST_F(ImageTest, MaskKeepsEveryNonzeroLabel) {
  Image labels(8, 8, 1);
  for (int y = 2; y < 6; ++y)
    for (int x = 2; x < 6; ++x) labels.pixels[labels.offset(x, y)] = 1;
  const std::vector<std::uint8_t> mask = preprocess_mask(labels, 16);
  EXPECT_EQ(std::count(mask.begin(), mask.end(), 1), 64);
  EXPECT_EQ(mask[16 * 8 + 8], 1);
  EXPECT_EQ(mask[0], 0);
}

TEST_F(ImageTest, HeatColorsGrowLighterAndSurviveNan) {
  int before = -1;
  for (int i = 0; i <= 20; ++i) {
    const Color color = heat_color(static_cast<float>(i) / 20.0f);
    const int lightness = 299 * color.red + 587 * color.green + 114 * color.blue;
    EXPECT_GT(lightness, before);
    before = lightness;
  }
  EXPECT_EQ(heat_color(std::numeric_limits<float>::quiet_NaN()).red, heat_color(0).red);
  EXPECT_EQ(heat_color(7).green, heat_color(1).green);
}

TEST_F(ImageTest, OverlayIsBrightestWhereTheMapIs) {
  const float map[4] = {0, 0, 0, 1};
  const Image heat = overlay_heat_map(Image(40, 40, 1, 100), map, 2, 2);
  EXPECT_EQ(heat.channels, 3);
  EXPECT_GT(heat.pixels[heat.offset(39, 39)], heat.pixels[heat.offset(0, 0)] + 50);
}

TEST_F(ImageTest, ContourFollowsTheMasksEdge) {
  Image mask(10, 10, 1);
  for (int y = 3; y < 8; ++y)
    for (int x = 3; x < 8; ++x) mask.pixels[mask.offset(x, y)] = 255;
  const Image drawn = draw_contour(Image(10, 10, 3), mask, {0, 255, 0});
  EXPECT_EQ(drawn.pixels[drawn.offset(3, 5) + 1], 255);  // edge
  EXPECT_EQ(drawn.pixels[drawn.offset(5, 5) + 1], 0);    // inside
  EXPECT_EQ(drawn.pixels[drawn.offset(1, 1) + 1], 0);    // outside
}

}  // namespace
}  // namespace filo
