#include <png.h>

#include <csetjmp>
#include <cstring>

#include "data/images/formats.hpp"

namespace filo {
namespace image_formats {

namespace {

constexpr std::string_view signature{"\x89PNG\r\n\x1a\n", 8};

std::uint32_t big_endian_32(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = (value << 8) | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

// What libpng's callbacks see. Lives outside every frame that longjmp crosses.
struct PngState {
  std::string_view input;
  std::size_t position = 0;
  std::string output;
  std::string message;
};

void on_error(png_structp png, png_const_charp message) {
  static_cast<PngState*>(png_get_error_ptr(png))->message = message;
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void read_bytes(png_structp png, png_bytep to, std::size_t count) {
  auto* state = static_cast<PngState*>(png_get_io_ptr(png));
  if (state->input.size() - state->position < count) png_error(png, "the file ends too early");
  std::memcpy(to, state->input.data() + state->position, count);
  state->position += count;
}

void write_bytes(png_structp png, png_bytep from, std::size_t count) {
  static_cast<PngState*>(png_get_io_ptr(png))->output.append(reinterpret_cast<const char*>(from), count);
}

void flush_bytes(png_structp) {}

// Only libpng calls between here and its longjmp, and no object with a destructor.
bool read_pixels(png_structp png, png_infop info, Image* image, Depth16 depth, std::vector<std::uint8_t>* wide,
                 std::vector<png_bytep>* rows) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_read_info(png, info);
  const bool grey = (png_get_color_type(png, info) & PNG_COLOR_MASK_COLOR) == 0;
  const bool folded = png_get_bit_depth(png, info) == 16 &&
                      (depth.rule == Depth16::Rule::any_bit || (depth.rule == Depth16::Rule::scaled && grey));
  png_set_expand(png);  // palette to RGB, 1, 2 and 4 bit to 8; a tRNS chunk to alpha, which goes below
  if (!folded) png_set_strip_16(png);
  png_set_strip_alpha(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  const std::size_t channels = png_get_channels(png, info);
  if (channels != 1 && channels != 3) png_error(png, "unexpected number of channels");
  image->channels = static_cast<int>(channels);
  const std::size_t samples =
      static_cast<std::size_t>(image->width) * static_cast<std::size_t>(image->height) * channels;
  const std::size_t row_bytes = png_get_rowbytes(png, info);
  if (row_bytes * static_cast<std::size_t>(image->height) != samples * (folded ? 2 : 1))
    png_error(png, "unexpected row size");
  std::vector<std::uint8_t>& target = folded ? *wide : image->pixels;
  target.resize(samples * (folded ? 2 : 1));
  rows->resize(static_cast<std::size_t>(image->height));
  for (std::size_t y = 0; y < rows->size(); ++y) (*rows)[y] = target.data() + y * row_bytes;
  png_read_image(png, rows->data());
  png_read_end(png, nullptr);
  if (folded) {
    image->pixels.resize(samples);
    for (std::size_t i = 0; i < samples; ++i)
      image->pixels[i] = depth.reduced(static_cast<std::uint32_t>((*wide)[2 * i] << 8 | (*wide)[2 * i + 1]));
  }
  return true;
}

bool write_pixels(png_structp png, png_infop info, const Image& image) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_set_IHDR(png, info, static_cast<png_uint_32>(image.width), static_cast<png_uint_32>(image.height), 8,
               image.channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_set_compression_level(png, 4);
  png_write_info(png, info);
  for (int y = 0; y < image.height; ++y) png_write_row(png, image.pixels.data() + image.offset(0, y));
  png_write_end(png, nullptr);
  return true;
}

class PngReader {
 public:
  explicit PngReader(PngState* state)
      : png(png_create_read_struct(PNG_LIBPNG_VER_STRING, state, on_error, on_warning)),
        info(png == nullptr ? nullptr : png_create_info_struct(png)) {
    if (info == nullptr) throw std::bad_alloc();
    png_set_read_fn(png, state, read_bytes);
    png_set_user_limits(png, 0x7fffffff, 0x7fffffff);  // check_size is the bound
  }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;
  ~PngReader() { png_destroy_read_struct(&png, &info, nullptr); }

  png_structp png;
  png_infop info;
};

class PngWriter {
 public:
  explicit PngWriter(PngState* state)
      : png(png_create_write_struct(PNG_LIBPNG_VER_STRING, state, on_error, on_warning)),
        info(png == nullptr ? nullptr : png_create_info_struct(png)) {
    if (info == nullptr) throw std::bad_alloc();
    png_set_write_fn(png, state, write_bytes, flush_bytes);
  }
  PngWriter(const PngWriter&) = delete;
  PngWriter& operator=(const PngWriter&) = delete;
  ~PngWriter() { png_destroy_write_struct(&png, &info); }

  png_structp png;
  png_infop info;
};

}  // namespace

bool is_png(std::string_view bytes) { return bytes.substr(0, signature.size()) == signature; }

Header read_png_header(std::string_view bytes, const std::string& name) {
  if (bytes.size() < 33 || bytes.substr(12, 4) != "IHDR") fail(name, "the file ends too early: PNG without IHDR");
  Header header;
  const std::int64_t width = big_endian_32(bytes, 16), height = big_endian_32(bytes, 20);
  check_size(width, height, name);
  header.size = {static_cast<int>(width), static_cast<int>(height)};
  header.grey16 = bytes[24] == 16 && (bytes[25] & PNG_COLOR_MASK_COLOR) == 0;
  for (std::size_t at = signature.size(); bytes.size() - at >= 12;) {
    const std::size_t length = big_endian_32(bytes, at);
    if (bytes.size() - at - 12 < length) break;
    if (bytes.substr(at + 4, 4) == "eXIf") header.orientation = exif_orientation(bytes.substr(at + 8, length));
    at += 12 + length;
  }
  return header;
}

Image decode_png(std::string_view bytes, const std::string& name, Depth16 depth) {
  Image image;
  const Header header = read_png_header(bytes, name);
  image.width = header.size.width;
  image.height = header.size.height;
  // Deflate shrinks at most about 1032 times: a small file that claims a huge image is refused before memory is taken
  // for it.
  const auto least_bits = static_cast<std::uint64_t>(image.width) * static_cast<std::uint64_t>(image.height);
  if (least_bits / 8 / 1040 > bytes.size())
    fail(name, "the file ends too early: " + std::to_string(bytes.size()) + " bytes cannot hold " +
                   std::to_string(image.width) + " x " + std::to_string(image.height) + " pixels");
  PngState state;
  state.input = bytes;
  std::vector<std::uint8_t> wide;
  std::vector<png_bytep> rows;
  PngReader reader(&state);
  if (!read_pixels(reader.png, reader.info, &image, depth, &wide, &rows)) fail(name, "broken PNG: " + state.message);
  return image;
}

}  // namespace image_formats

std::string encode_png(const Image& image) {
  image_formats::PngState state;
  image_formats::PngWriter writer(&state);
  if (!image_formats::write_pixels(writer.png, writer.info, image)) image_formats::fail("PNG writer", state.message);
  return std::move(state.output);
}

}  // namespace filo
