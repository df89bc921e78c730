// The decoders behind data/images/image.hpp; not for use elsewhere. `name` stands for the file in errors.
#pragma once

#include <string>
#include <string_view>

#include "data/images/image.hpp"

namespace filo::image_formats {

enum class Depth16 { high_byte, any_bit };  // what one 16-bit sample becomes: its high byte, or (high | low)

struct Header {
  ImageSize size;       // as stored
  int orientation = 1;  // EXIF, 1..8
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
