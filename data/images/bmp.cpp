#include <algorithm>
#include <array>
#include <bit>
#include <optional>

#include "data/images/formats.hpp"

namespace filo::image_formats {

namespace {

constexpr std::size_t file_header_bytes = 14;

struct BmpHeader {
  ImageSize size;
  bool top_down = false;
  int bits = 0;                          // per pixel
  std::size_t pixel_offset = 0;          // in the file
  std::size_t palette_offset = 0;        // in the file
  std::size_t palette_entry_bytes = 4;   // 3 in OS/2's format
  std::size_t palette_entries = 0;       // 0 for 16, 24 and 32 bit
  std::array<std::uint32_t, 3> masks{};  // red, green, blue; 16 and 32 bit
};

class BmpReader {
 public:
  BmpReader(std::string_view bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  std::uint32_t number(std::size_t at, int size) const {
    if (at > bytes_.size() || bytes_.size() - at < static_cast<std::size_t>(size))
      fail(name_, "the file ends too early: BMP of " + std::to_string(bytes_.size()) + " bytes");
    std::uint32_t value = 0;
    for (int i = size - 1; i >= 0; --i)
      value = (value << 8) | static_cast<unsigned char>(bytes_[at + static_cast<std::size_t>(i)]);
    return value;
  }

  std::int32_t signed_number(std::size_t at) const { return static_cast<std::int32_t>(number(at, 4)); }

 private:
  std::string_view bytes_;
  const std::string& name_;
};

void read_masks(const BmpReader& file, std::uint32_t header_bytes, std::uint32_t compression, BmpHeader* header,
                const std::string& name) {
  if (compression == 3) {
    for (std::size_t i = 0; i < 3; ++i) header->masks[i] = file.number(file_header_bytes + 40 + 4 * i, 4);
    if (header_bytes == 40) header->palette_offset += 12;
  } else if (header->bits == 16) {
    header->masks = {0x7c00, 0x03e0, 0x001f};
  } else {
    header->masks = {0xff0000, 0x00ff00, 0x0000ff};
  }
  for (const std::uint32_t mask : header->masks) {
    const std::uint32_t run = mask == 0 ? 0 : mask >> std::countr_zero(mask);
    if (mask == 0 || (run & (run + 1)) != 0 || run > 0xffff) fail(name, "BMP with an unusable colour mask");
  }
}

BmpHeader read_header(std::string_view bytes, const std::string& name) {
  const BmpReader file(bytes, name);
  BmpHeader header;
  header.pixel_offset = file.number(10, 4);
  const std::uint32_t header_bytes = file.number(file_header_bytes, 4);
  std::int64_t width = 0, height = 0;
  std::uint32_t compression = 0, colors = 0;
  if (header_bytes == 12) {
    width = file.number(18, 2);
    height = file.number(20, 2);
    header.bits = static_cast<int>(file.number(24, 2));
    header.palette_entry_bytes = 3;
  } else if (header_bytes >= 40 && header_bytes <= 124) {
    width = file.signed_number(18);
    height = file.signed_number(22);
    header.bits = static_cast<int>(file.number(28, 2));
    compression = file.number(30, 4);
    colors = file.number(46, 4);
  } else {
    fail(name, "BMP with a header of " + std::to_string(header_bytes) + " bytes, expected 12 or 40 to 124");
  }
  header.top_down = height < 0;
  height = header.top_down ? -height : height;
  check_size(width, height, name);
  header.size = {static_cast<int>(width), static_cast<int>(height)};
  header.palette_offset = file_header_bytes + header_bytes;

  if (compression == 1 || compression == 2)
    fail(name, "BMP with run-length compression (RLE), expected an uncompressed one: save it again as PNG");
  if (compression != 0 && compression != 3)
    fail(name, "BMP with compression " + std::to_string(compression) + ", expected none");
  switch (header.bits) {
    case 1:
    case 4:
    case 8: {
      if (compression != 0) fail(name, "BMP with a palette and colour masks");
      const std::uint32_t most = 1u << header.bits;
      header.palette_entries = colors == 0 ? most : colors;
      if (colors > most)
        fail(name, "BMP with " + std::to_string(colors) + " palette entries, expected at most " + std::to_string(most));
      break;
    }
    case 24:
      break;
    case 16:
    case 32:
      read_masks(file, header_bytes, compression, &header, name);
      break;
    default:
      fail(name, "BMP with " + std::to_string(header.bits) + " bits a pixel, expected 1, 4, 8, 16, 24 or 32");
  }
  return header;
}

std::vector<std::array<std::uint8_t, 3>> read_palette(std::string_view bytes, const BmpHeader& header,
                                                      const std::string& name) {
  const BmpReader file(bytes, name);
  std::vector<std::array<std::uint8_t, 3>> palette(header.palette_entries);
  for (std::size_t i = 0; i < palette.size(); ++i)
    for (std::size_t channel = 0; channel < 3; ++channel)
      palette[i][2 - channel] =
          static_cast<std::uint8_t>(file.number(header.palette_offset + i * header.palette_entry_bytes + channel, 1));
  return palette;
}

std::uint8_t masked_channel(std::uint32_t pixel, std::uint32_t mask) {
  const int shift = std::countr_zero(mask);
  return static_cast<std::uint8_t>(((pixel & mask) >> shift) * 255u / (mask >> shift));
}

}  // namespace

bool is_bmp(std::string_view bytes) { return bytes.substr(0, 2) == "BM"; }

Header read_bmp_header(std::string_view bytes, const std::string& name) {
  return {read_header(bytes, name).size, 1, false};
}

Image decode_bmp(std::string_view bytes, const std::string& name) {
  const BmpHeader header = read_header(bytes, name);
  const auto palette = read_palette(bytes, header, name);
  const auto width = static_cast<std::size_t>(header.size.width), height = static_cast<std::size_t>(header.size.height);
  const std::size_t row_bytes = (width * static_cast<std::size_t>(header.bits) + 31) / 32 * 4;
  if (header.pixel_offset < file_header_bytes || header.pixel_offset > bytes.size() ||
      (bytes.size() - header.pixel_offset) / row_bytes < height)
    fail(name, "the file ends too early: " + std::to_string(bytes.size()) + " bytes cannot hold " +
                   std::to_string(width) + " x " + std::to_string(height) + " pixels of " +
                   std::to_string(header.bits) + " bits");
  const bool grey = !palette.empty() && std::all_of(palette.begin(), palette.end(), [](const auto& color) {
    return color[0] == color[1] && color[1] == color[2];
  });
  Image image(header.size.width, header.size.height, grey ? 1 : 3);
  std::size_t out = 0;
  for (std::size_t y = 0; y < height; ++y) {
    const auto* row = reinterpret_cast<const std::uint8_t*>(bytes.data()) + header.pixel_offset +
                      row_bytes * (header.top_down ? y : height - 1 - y);
    for (std::size_t x = 0; x < width; ++x) {
      if (header.bits <= 8) {
        const auto bits = static_cast<std::size_t>(header.bits);
        const std::size_t shift = 8 - bits - (x * bits) % 8;
        const std::size_t index = (row[x * bits / 8] >> shift) & ((1u << bits) - 1);
        if (index >= palette.size())
          fail(name, "BMP with palette index " + std::to_string(index) + ", expected less than " +
                         std::to_string(palette.size()));
        for (std::size_t channel = 0; channel < static_cast<std::size_t>(image.channels); ++channel)
          image.pixels[out++] = palette[index][channel];
      } else if (header.bits == 24) {
        for (std::size_t channel = 0; channel < 3; ++channel) image.pixels[out++] = row[3 * x + 2 - channel];
      } else {
        const auto bytes_per_pixel = static_cast<std::size_t>(header.bits / 8);
        std::uint32_t pixel = 0;
        for (std::size_t i = bytes_per_pixel; i-- > 0;) pixel = (pixel << 8) | row[x * bytes_per_pixel + i];
        for (const std::uint32_t mask : header.masks) image.pixels[out++] = masked_channel(pixel, mask);
      }
    }
  }
  return image;
}

}  // namespace filo::image_formats
