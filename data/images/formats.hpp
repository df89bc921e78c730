// The decoders behind data/images/image.hpp; not for use elsewhere. `name` stands for the file in errors.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "data/images/image.hpp"

namespace filo::image_formats {

// What one 16-bit sample becomes: its high byte; (high | low); or, of grey, what `range` says (others: the high byte).
struct Depth16 {
  enum class Rule { high_byte, any_bit, scaled };
  Rule rule = Rule::high_byte;
  Grey16Range range;

  std::uint8_t reduced(std::uint32_t value) const {
    const auto sample = static_cast<int>(value);
    switch (rule) {
      case Rule::any_bit:
        return static_cast<std::uint8_t>((sample >> 8) | (sample & 255));
      case Rule::scaled: {
        const std::int64_t span = range.high - range.low, above = std::clamp(sample, range.low, range.high) - range.low;
        return static_cast<std::uint8_t>((510 * above + span) / (2 * span));
      }
      default:
        return static_cast<std::uint8_t>(sample >> 8);
    }
  }
};

struct Header {
  ImageSize size;       // as stored
  int orientation = 1;  // EXIF, 1..8
  bool grey16 = false;  // 16-bit samples of grey
};

// True when the bytes start as the format does.
bool is_png(std::string_view bytes);
bool is_jpeg(std::string_view bytes);
bool is_bmp(std::string_view bytes);
bool is_tiff(std::string_view bytes);

Header read_png_header(std::string_view bytes, const std::string& name);
Header read_jpeg_header(std::string_view bytes, const std::string& name);
Header read_bmp_header(std::string_view bytes, const std::string& name);
Header read_tiff_header(std::string_view bytes, const std::string& name);

// Pixels as stored: the orientation is the caller's.
Image decode_png(std::string_view bytes, const std::string& name, Depth16 depth);
Image decode_jpeg(std::string_view bytes, const std::string& name);
Image decode_bmp(std::string_view bytes, const std::string& name);
Image decode_tiff(std::string_view bytes, const std::string& name, Depth16 depth);

// The orientation (1..8) in a TIFF structure, the body of an EXIF block; 1 when absent or malformed.
int exif_orientation(std::string_view tiff);

// Throws Error unless 1 <= width, height and width * height <= max_image_pixels.
void check_size(std::int64_t width, std::int64_t height, const std::string& name);

[[noreturn]] void fail(const std::string& name, const std::string& problem);  // Error "image: NAME: problem"

}  // namespace filo::image_formats
