#include "data/images/image.hpp"

#include <algorithm>
#include <utility>

#include "base/error.hpp"
#include "base/files.hpp"
#include "data/images/formats.hpp"

namespace filo {

namespace image_formats {

void fail(const std::string& name, const std::string& problem) { throw Error("image: " + name, problem); }

void check_size(std::int64_t width, std::int64_t height, const std::string& name) {
  if (width < 1 || height < 1)
    fail(name, "is " + std::to_string(width) + " x " + std::to_string(height) + " pixels, expected at least 1 x 1");
  if (width > max_image_pixels / height)
    fail(name, "is " + std::to_string(width) + " x " + std::to_string(height) + " pixels, expected at most " +
                   std::to_string(max_image_pixels) + " in all");
}

namespace {

// Numbers in a TIFF structure, either byte order; nothing where they would lie outside.
class TiffReader {
 public:
  explicit TiffReader(std::string_view bytes) : bytes_(bytes), big_endian_(bytes.substr(0, 2) == "MM") {}

  bool read(std::size_t at, int size, std::uint32_t* value) const {
    if (at > bytes_.size() || bytes_.size() - at < static_cast<std::size_t>(size)) return false;
    *value = 0;
    for (int i = 0; i < size; ++i) {
      const auto byte =
          static_cast<unsigned char>(bytes_[at + static_cast<std::size_t>(big_endian_ ? i : size - 1 - i)]);
      *value = (*value << 8) | byte;
    }
    return true;
  }

 private:
  std::string_view bytes_;
  bool big_endian_;
};

}  // namespace

int exif_orientation(std::string_view tiff) {
  constexpr std::uint32_t orientation_tag = 0x0112;
  const TiffReader reader(tiff);
  if (tiff.substr(0, 2) != "II" && tiff.substr(0, 2) != "MM") return 1;
  std::uint32_t magic = 0, directory = 0, entries = 0;
  if (!reader.read(2, 2, &magic) || magic != 42) return 1;
  if (!reader.read(4, 4, &directory) || !reader.read(directory, 2, &entries)) return 1;
  for (std::size_t entry = 0; entry < entries; ++entry) {
    const std::size_t at = directory + 2 + 12 * entry;
    std::uint32_t tag = 0, type = 0, value = 0;
    if (!reader.read(at, 2, &tag) || !reader.read(at + 2, 2, &type)) return 1;
    if (tag != orientation_tag) continue;
    const int size = type == 1 ? 1 : type == 3 ? 2 : type == 4 ? 4 : 0;
    if (size == 0 || !reader.read(at + 8, size, &value)) return 1;
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

}  // namespace image_formats

namespace {

using namespace image_formats;

[[noreturn]] void fail_unknown(std::string_view bytes, const std::string& name) {
  fail(name,
       bytes.empty() ? "is empty, expected a PNG, JPEG, BMP or TIFF image" : "is not a PNG, JPEG, BMP or TIFF image");
}

Header read_header(std::string_view bytes, const std::string& name) {
  if (is_png(bytes)) return read_png_header(bytes, name);
  if (is_jpeg(bytes)) return read_jpeg_header(bytes, name);
  if (is_bmp(bytes)) return read_bmp_header(bytes, name);
  if (is_tiff(bytes)) return read_tiff_header(bytes, name);
  fail_unknown(bytes, name);
}

// Undoes the camera's orientation: pixel (x, y) of the result is the stored pixel at source(x, y).
Image orient(Image stored, int orientation) {
  if (orientation == 1) return stored;
  const int right = stored.width - 1, bottom = stored.height - 1;
  const bool turned = orientation >= 5;
  Image result(turned ? stored.height : stored.width, turned ? stored.width : stored.height, stored.channels);
  const auto source = [&](int x, int y) -> std::pair<int, int> {
    switch (orientation) {
      case 2:
        return {right - x, y};
      case 3:
        return {right - x, bottom - y};
      case 4:
        return {x, bottom - y};
      case 5:
        return {y, x};
      case 6:
        return {y, bottom - x};
      case 7:
        return {right - y, bottom - x};
      default:
        return {right - y, x};
    }
  };
  for (int y = 0; y < result.height; ++y)
    for (int x = 0; x < result.width; ++x) {
      const auto [from_x, from_y] = source(x, y);
      std::copy_n(stored.pixels.begin() + static_cast<std::ptrdiff_t>(stored.offset(from_x, from_y)), stored.channels,
                  result.pixels.begin() + static_cast<std::ptrdiff_t>(result.offset(x, y)));
    }
  return result;
}

Image decode(std::string_view bytes, const std::string& name, Depth16 depth) {
  const Header header = read_header(bytes, name);
  Image image = is_png(bytes)    ? decode_png(bytes, name, depth)
                : is_jpeg(bytes) ? decode_jpeg(bytes, name)
                : is_tiff(bytes) ? decode_tiff(bytes, name, depth)
                                 : decode_bmp(bytes, name);
  return orient(std::move(image), header.orientation);
}

}  // namespace

Image::Image(int image_width, int image_height, int image_channels, std::uint8_t value)
    : width(image_width),
      height(image_height),
      channels(image_channels),
      pixels(static_cast<std::size_t>(image_width) * static_cast<std::size_t>(image_height) *
                 static_cast<std::size_t>(image_channels),
             value) {}

std::string read_image_bytes(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) fail(path.string(), "no such file");
  if (!std::filesystem::is_regular_file(status)) fail(path.string(), "is not a regular file");
  const auto size = std::filesystem::file_size(path, error);
  if (!error && size > max_image_bytes)
    fail(path.string(), "has " + std::to_string(size) + " bytes, expected at most " + std::to_string(max_image_bytes));
  return read_file(path);
}

Grey16Range grey16_range_from(const std::string& text) {
  const std::size_t colon = text.find(':');
  const auto number = [&](const std::string& digits) {
    const bool good =
        !digits.empty() && digits.size() <= 5 && digits.find_first_not_of("0123456789") == std::string::npos;
    return good ? std::stoi(digits) : -1;
  };
  const Grey16Range range = {.low = number(text.substr(0, colon)),
                             .high = colon == std::string::npos ? -1 : number(text.substr(colon + 1))};
  if (range.low < 0 || range.high > 65535 || range.low >= range.high)
    throw UsageError("image: grey16",
                     "is '" + text + "', expected LOW:HIGH with 0 <= LOW < HIGH <= 65535, such as 0:4095 of 12 bits");
  return range;
}

Image decode_image(std::string_view bytes, const std::string& name, const std::optional<Grey16Range>& grey16) {
  return decode(bytes, name, grey16 ? Depth16{Depth16::Rule::scaled, *grey16} : Depth16{});
}

Image decode_image(const std::filesystem::path& path, const std::optional<Grey16Range>& grey16) {
  return decode_image(read_image_bytes(path), path.string(), grey16);
}

bool has_grey16(std::string_view bytes, const std::string& name) { return read_header(bytes, name).grey16; }

ImageSize read_image_size(std::string_view bytes, const std::string& name) {
  const Header header = read_header(bytes, name);
  if (header.orientation >= 5) return {header.size.height, header.size.width};
  return header.size;
}

ImageSize read_image_size(const std::filesystem::path& path) {
  return read_image_size(read_image_bytes(path), path.string());
}

Image decode_mask(const std::filesystem::path& path) {
  Image mask = to_grey(decode(read_image_bytes(path), path.string(), {Depth16::Rule::any_bit, {}}));
  for (auto& pixel : mask.pixels) pixel = pixel > 0 ? 255 : 0;
  return mask;
}

Image to_rgb(Image image) {
  if (image.channels == 3) return image;
  Image rgb(image.width, image.height, 3);
  for (std::size_t i = 0; i < image.pixels.size(); ++i)
    std::fill_n(rgb.pixels.begin() + static_cast<std::ptrdiff_t>(3 * i), 3, image.pixels[i]);
  return rgb;
}

Image to_grey(Image image) {
  if (image.channels == 1) return image;
  Image grey(image.width, image.height, 1);
  for (std::size_t i = 0; i < grey.pixels.size(); ++i) {
    const std::uint8_t* rgb = &image.pixels[3 * i];
    grey.pixels[i] = static_cast<std::uint8_t>((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 32768u) >> 16);
  }
  return grey;
}

void write_png(const std::filesystem::path& path, const Image& image) {
  write_file_atomically(path, encode_png(image));
}

}  // namespace filo
