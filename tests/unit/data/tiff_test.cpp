// Guards the TIFF reader of data/images/image.hpp against hostile files; equality with Pillow is
// tests/parity/images.py's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "base/error.hpp"
#include "data/images/image.hpp"

namespace filo {
namespace {

using testing::HasSubstr;

std::string number(std::uint64_t value, int bytes) {  // little-endian
  std::string result;
  for (int i = 0; i < bytes; ++i, value >>= 8) result.push_back(static_cast<char>(value & 0xff));
  return result;
}

enum Tag : std::uint16_t {
  width_tag = 256,
  height_tag = 257,
  bits_tag = 258,
  compression_tag = 259,
  photometric_tag = 262,
  offset_tag = 273,
  orientation_tag = 274,
  samples_tag = 277,
  rows_tag = 278,
  bytes_tag = 279,
  planar_tag = 284,
  tile_width_tag = 322,
  tile_height_tag = 323,
  tile_offset_tag = 324,
  tile_bytes_tag = 325,
  format_tag = 339
};

// An uncompressed image of one strip, in little-endian order: header, directory, pixels. `changed` entries take the
// place of the usual ones.
std::string tiff(std::uint32_t width, std::uint32_t height, std::uint32_t bits, std::uint32_t samples,
                 const std::string& pixels, const std::map<std::uint16_t, std::uint32_t>& changed = {}) {
  std::map<std::uint16_t, std::uint32_t> tags = {{width_tag, width},
                                                 {height_tag, height},
                                                 {bits_tag, bits},
                                                 {compression_tag, 1},
                                                 {photometric_tag, samples >= 3 ? 2 : 1},
                                                 {offset_tag, 0},
                                                 {samples_tag, samples},
                                                 {rows_tag, height},
                                                 {bytes_tag, static_cast<std::uint32_t>(pixels.size())}};
  for (const auto& [tag, value] : changed) tags[tag] = value;
  const auto directory_bytes = static_cast<std::uint32_t>(2 + 12 * tags.size() + 4);
  const std::uint32_t end = 8 + directory_bytes;
  std::string file = "II" + number(42, 2) + number(8, 4) + number(tags.size(), 2);
  for (auto [tag, value] : tags) {
    if (tag == offset_tag || tag == tile_offset_tag) value = end + (bits > 8 || samples < 3 ? 0 : 2 * samples);
    const bool is_bits = tag == bits_tag && samples >= 3;  // more than two shorts do not fit into an entry
    file += number(tag, 2) + number(is_bits ? 3 : 4, 2) + number(is_bits ? samples : 1, 4) +
            number(is_bits ? end : value, 4);
  }
  file += number(0, 4);
  if (samples >= 3)
    for (std::uint32_t i = 0; i < samples; ++i) file += number(bits, 2);
  return file + pixels;
}

std::string error_of(const std::string& bytes) {
  try {
    decode_image(bytes, "a.tif");
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("a.tif"));
    return error.what();
  }
  return "no error";
}

TEST(TiffTest, GreyAndColorsAreRead) {
  const Image grey = decode_image(tiff(3, 2, 8, 1, "abcdef"), "a.tif");
  EXPECT_EQ(grey.channels, 1);
  EXPECT_EQ(std::string(grey.pixels.begin(), grey.pixels.end()), "abcdef");
  const Image rgba = decode_image(tiff(2, 1, 8, 4, "abcXdefX"), "a.tif");
  EXPECT_EQ(rgba.channels, 3);
  EXPECT_EQ(std::string(rgba.pixels.begin(), rgba.pixels.end()), "abcdef");
  EXPECT_EQ(decode_image(tiff(2, 1, 8, 1, "ab", {{photometric_tag, 0}}), "a.tif").pixels,
            (std::vector<std::uint8_t>{255 - 'a', 255 - 'b'}));
  EXPECT_EQ(decode_image(tiff(10, 1, 1, 1, "\xa0\x40"), "a.tif").pixels,
            (std::vector<std::uint8_t>{255, 0, 255, 0, 0, 0, 0, 0, 0, 255}));
}

TEST(TiffTest, SixteenBitsKeepTheirHighByte) {
  EXPECT_EQ(decode_image(tiff(2, 1, 16, 1, std::string("\x01\x80\xff\x7f", 4)), "a.tif").pixels,
            (std::vector<std::uint8_t>{0x80, 0x7f}));
}

TEST(TiffTest, OrientationTurnsPixelsAndSize) {
  const std::string turned = tiff(3, 1, 8, 1, "abc", {{orientation_tag, 6}});
  EXPECT_EQ(read_image_size(turned, "a.tif"), (ImageSize{1, 3}));
  EXPECT_EQ(decode_image(turned, "a.tif").height, 3);
}

TEST(TiffTest, WhatCannotBeReadSaysWhy) {
  EXPECT_THAT(error_of(tiff(1, 1, 32, 1, "abcd", {{format_tag, 3}})), HasSubstr("floating-point"));
  EXPECT_THAT(error_of(tiff(1, 1, 32, 1, "abcd")), HasSubstr("32 bits a sample"));
  EXPECT_THAT(error_of(tiff(1, 1, 8, 4, "abcd", {{photometric_tag, 5}})), HasSubstr("photometric interpretation 5"));
  EXPECT_THAT(error_of(tiff(1, 1, 8, 1, "a", {{compression_tag, 12345}})), HasSubstr("broken TIFF"));
  EXPECT_THAT(error_of(tiff(0, 1, 8, 1, "a")), HasSubstr("broken TIFF"));
}

TEST(TiffTest, HugeClaimedSizesAreRefused) {
  EXPECT_THAT(error_of(tiff(0x7fffffff, 0x7fffffff, 8, 1, "a")), HasSubstr("expected at most 500000000 in all"));
  EXPECT_THAT(error_of(tiff(20000, 20000, 8, 1, "a")), HasSubstr("broken TIFF"));
  EXPECT_THAT(error_of(tiff(400'000'000, 1, 8, 3, "a")), HasSubstr("rows or tiles of 1200000000 bytes"));
  const std::string tiles =
      tiff(16, 16, 8, 1, "a",
           {{tile_width_tag, 1 << 16}, {tile_height_tag, 1 << 15}, {tile_offset_tag, 0}, {tile_bytes_tag, 1}});
  EXPECT_THAT(error_of(tiles), HasSubstr("rows or tiles of 2147483648 bytes"));
}

// Every prefix is an error that names the file: no crash, no half image.
TEST(TiffTest, TruncatedFilesAreErrorsThatNameTheFile) {
  const std::string tile(256, 't');
  for (const std::string& whole :
       {tiff(5, 3, 8, 3, std::string(45, 'p')), tiff(4, 3, 16, 1, std::string(24, 'p')),
        tiff(9, 9, 8, 1, tile,
             {{tile_width_tag, 16}, {tile_height_tag, 16}, {tile_offset_tag, 0}, {tile_bytes_tag, 256}})}) {
    EXPECT_EQ(error_of(whole), "no error");
    for (std::size_t size = 0; size < whole.size(); ++size)
      EXPECT_NE(error_of(whole.substr(0, size)), "no error") << size;
  }
}

// Worth most under asan.
TEST(TiffTest, DamagedFilesNeverCrash) {
  const std::string tile(256, 't');
  unsigned state = 1;
  for (const std::string& whole :
       {tiff(5, 3, 8, 3, std::string(45, 'p')), tiff(40, 3, 1, 1, std::string(15, 'p')),
        tiff(4, 3, 16, 3, std::string(72, 'p'), {{planar_tag, 2}}),
        tiff(9, 9, 8, 1, tile,
             {{tile_width_tag, 16}, {tile_height_tag, 16}, {tile_offset_tag, 0}, {tile_bytes_tag, 256}})})
    for (int round = 0; round < 500; ++round) {
      std::string damaged = whole;
      for (int i = 0; i < 1 + round % 3; ++i) {
        state = state * 1664525u + 1013904223u;
        damaged[2 + (state >> 8) % (std::min<std::size_t>(damaged.size(), 160) - 2)] = static_cast<char>(state >> 24);
      }
      try {
        const Image image = decode_image(damaged, "damaged");
        EXPECT_EQ(image.pixels.size(), static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height) *
                                           static_cast<std::size_t>(image.channels));
      } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("damaged"));
      }
    }
}

}  // namespace
}  // namespace filo
