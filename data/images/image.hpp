// Images: decoding (PNG, JPEG, BMP, TIFF), CLIP's preprocessing, masks, PNG writing, heat maps. All functions are
// thread-safe.
//
// Every reader treats the file as hostile: sizes are checked before they are used, and every error names the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace filo {

// An image with more pixels is refused before its pixels are allocated.
inline constexpr std::int64_t max_image_pixels = 500'000'000;
// A file with more bytes is refused before it is read.
inline constexpr std::uintmax_t max_image_bytes = std::uintmax_t{1} << 30;

struct Image {
  int width = 0;
  int height = 0;
  int channels = 3;                  // 1 (grey) or 3 (RGB)
  std::vector<std::uint8_t> pixels;  // [height, width, channels], rows from the top

  Image() = default;
  // All pixels are `value`.
  Image(int image_width, int image_height, int image_channels, std::uint8_t value = 0);
  std::size_t offset(int x, int y) const {
    return (static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x)) *
           static_cast<std::size_t>(channels);
  }
};

struct ImageSize {
  int width = 0;
  int height = 0;
  bool operator==(const ImageSize&) const = default;
};

// Of 16-bit grey: the samples that become 0 and 255, 0 <= low < high <= 65535. Those between are scaled linearly and
// rounded, those outside are clamped.
struct Grey16Range {
  int low = 0, high = 65535;
  bool operator==(const Grey16Range&) const = default;
};

// "LOW:HIGH"; throws UsageError.
Grey16Range grey16_range_from(const std::string& text);

// Decodes by content, whatever the suffix. Equal, bit for bit, to Pillow's
// `ImageOps.exif_transpose(Image.open(f)).convert("RGB")` (grey stays one channel here; to_rgb() repeats it), but for:
//   - 16-bit grey is scaled by `grey16`; without it it keeps its high byte, as 16-bit RGB does in both (Pillow clips
//     16-bit grey at 255: nearly all white);
//   - corrupt entropy-coded JPEG data is an error (Pillow shows it as grey blocks);
//   - an orientation that stands only in XMP is not looked for.
// Alpha is dropped. JPEG: grey, YCbCr, RGB, CMYK and YCCK. BMP: 1, 4, 8, 16, 24 and 32 bit, top-down too; RLE is
// refused. TIFF: the first image of the file; 8 and 16 bit grey and RGB, 8-bit palettes and 1 bit, strips and tiles,
// any compression of libtiff's. Throws Error "image: FILE: ...".
Image decode_image(const std::filesystem::path& path, const std::optional<Grey16Range>& grey16 = std::nullopt);
// The same from memory; `name` stands for the file in errors.
Image decode_image(std::string_view bytes, const std::string& name,
                   const std::optional<Grey16Range>& grey16 = std::nullopt);

// The bytes of a regular file of at most max_image_bytes; throws Error.
std::string read_image_bytes(const std::filesystem::path& path);

// Width and height after the EXIF orientation, from the headers alone: the pixels may still turn out to be broken.
ImageSize read_image_size(const std::filesystem::path& path);
ImageSize read_image_size(std::string_view bytes, const std::string& name);
// Whether Grey16Range matters to it, from the headers.
bool has_grey16(std::string_view bytes, const std::string& name);

// A mask file as 1 channel, 255 where Pillow's `convert("L")` is above 0, else 0. Of 16-bit pixels either byte counts,
// so that label images (1, 2, ...) keep their regions.
Image decode_mask(const std::filesystem::path& path);

// Repeats grey three times; RGB is returned as it is.
Image to_rgb(Image image);
// Pillow's "RGB" -> "L": (19595 R + 38470 G + 7471 B + 32768) / 65536.
Image to_grey(Image image);

enum class ResizeFilter { bilinear, bicubic };

// Pillow's Image.resize((width, height), filter), bit for bit: antialiased (the filter widens when shrinking), two
// passes (across, then down) in 8-bit fixed point with 22 fractional bits. Bicubic has a = -0.5.
Image resize_image(const Image& image, int width, int height, ResizeFilter filter);

// CLIP's input: RGB, bicubic to image_size x image_size (both axes scaled, nothing cropped away), / 255, CLIP's mean
// and standard deviation. Returns [3, image_size, image_size] float32, equal to torchvision's ToTensor + Normalize bit
// for bit.
std::vector<float> preprocess_clip(const Image& image, int image_size);

// A mask (decode_mask) at the model's size, as FiLo, AnomalyCLIP and APRIL-GAN do: above 0 -> 255, Pillow's antialiased
// bilinear resize, then above 0.5. Returns [image_size, image_size] of 0 or 1.
std::vector<std::uint8_t> preprocess_mask(const Image& image, int image_size);

// PNG bytes; 8 bit grey or RGB.
std::string encode_png(const Image& image);
// Written atomically (base/files.hpp).
void write_png(const std::filesystem::path& path, const Image& image);

struct Color {
  std::uint8_t red = 0, green = 0, blue = 0;
};

// Dark violet, magenta, orange, pale yellow: lightness grows evenly from 0 to 1. Values outside (and NaN, as 0) are
// clamped.
Color heat_color(float value);

// The photo with the anomaly map `map` [map_height, map_width], values 0..1, over it; the map is scaled bilinearly to
// the photo's size, and the more anomalous a pixel, the more of the heat colour it takes.
Image overlay_heat_map(const Image& photo, const float* map, int map_height, int map_width);

// The photo with the outline of `mask` (any size; a pixel belongs to it when above 0) drawn over it.
Image draw_contour(Image photo, const Image& mask, Color color);

// Side by side, all scaled to the first one's height; and one below the other, to the first one's width. RGB. Not
// empty.
Image join_horizontally(const std::vector<Image>& images);
Image join_vertically(const std::vector<Image>& images);

}  // namespace filo
