#include <tiffio.h>

#include <array>
#include <cstdarg>
#include <cstring>

#include "base/utf8.hpp"
#include "data/images/formats.hpp"

namespace filo::image_formats {

namespace {

// Of a row or tile. What a file claims is allocated row by row, so that a small file takes little memory.
constexpr std::uint64_t most_chunk_bytes = std::uint64_t{1} << 28;

// What libtiff's callbacks see.
struct TiffState {
  std::string_view input;
  std::uint64_t position = 0;
  std::string message;        // the first one
  bool reads_pixels = false;  // from now on a warning is as bad as an error: codecs go on with invented pixels
};

tmsize_t read_bytes(thandle_t handle, void* to, tmsize_t count) {
  auto* state = static_cast<TiffState*>(handle);
  if (count <= 0 || state->position >= state->input.size()) return 0;
  const std::size_t size =
      std::min(static_cast<std::size_t>(count), state->input.size() - static_cast<std::size_t>(state->position));
  std::memcpy(to, state->input.data() + state->position, size);
  state->position += size;
  return static_cast<tmsize_t>(size);
}

tmsize_t write_bytes(thandle_t, void*, tmsize_t) { return 0; }

toff_t seek(thandle_t handle, toff_t offset, int whence) {
  auto* state = static_cast<TiffState*>(handle);
  const std::uint64_t from = whence == SEEK_CUR ? state->position : whence == SEEK_END ? state->input.size() : 0;
  return state->position = from + offset;
}

int close_nothing(thandle_t) { return 0; }

toff_t size_of(thandle_t handle) { return static_cast<TiffState*>(handle)->input.size(); }

void keep_message(TiffState* state, const char* format, va_list arguments) {
  char text[256];
  std::vsnprintf(text, sizeof text, format, arguments);
  if (state->message.empty()) state->message = printable(text);
}

int on_error(TIFF*, void* user, const char*, const char* format, va_list arguments) {
  keep_message(static_cast<TiffState*>(user), format, arguments);
  return 1;
}

int on_warning(TIFF*, void* user, const char*, const char* format, va_list arguments) {
  auto* state = static_cast<TiffState*>(user);
  if (state->reads_pixels) keep_message(state, format, arguments);
  return 1;
}

// A file that libtiff has open, at its first image.
class TiffFile {
 public:
  TiffFile(std::string_view bytes, const std::string& name) : name_(name) {
    state_.input = bytes;
    TIFFOpenOptions* options = TIFFOpenOptionsAlloc();
    if (options == nullptr) throw std::bad_alloc();
    TIFFOpenOptionsSetMaxSingleMemAlloc(options, static_cast<tmsize_t>(max_image_bytes));
    TIFFOpenOptionsSetErrorHandlerExtR(options, on_error, &state_);
    TIFFOpenOptionsSetWarningHandlerExtR(options, on_warning, &state_);
    tiff_ = TIFFClientOpenExt("", "rm", &state_, read_bytes, write_bytes, seek, close_nothing, size_of, nullptr,
                              nullptr, options);
    TIFFOpenOptionsFree(options);
    if (tiff_ == nullptr) fail_broken();
  }
  TiffFile(const TiffFile&) = delete;
  TiffFile& operator=(const TiffFile&) = delete;
  ~TiffFile() { TIFFClose(tiff_); }

  TIFF* get() const { return tiff_; }
  template <typename T>
  T tag(std::uint32_t tag, T otherwise) const {
    T value{};
    return TIFFGetFieldDefaulted(tiff_, tag, &value) == 1 ? value : otherwise;
  }
  void begin_pixels() {
    state_.message.clear();
    state_.reads_pixels = true;
  }
  // Of a call while pixels are read: ends with an Error unless all is well.
  void check(bool good) const {
    if (!good || !state_.message.empty()) fail_broken();
  }
  [[noreturn]] void fail_broken() const {
    fail(name_,
         "broken TIFF: " + (state_.message.empty() ? "its rows or tiles are of impossible sizes" : state_.message));
  }
  [[noreturn]] void refuse(const std::string& found, const std::string& expected) const {
    fail(name_, "TIFF with " + found + ", expected " + expected + ": save it again as PNG");
  }

 private:
  const std::string& name_;
  TiffState state_;
  TIFF* tiff_ = nullptr;
};

Header header_of(const TiffFile& file, const std::string& name) {
  const std::int64_t width = file.tag<std::uint32_t>(TIFFTAG_IMAGEWIDTH, 0),
                     height = file.tag<std::uint32_t>(TIFFTAG_IMAGELENGTH, 0);
  check_size(width, height, name);
  const int orientation = file.tag<std::uint16_t>(TIFFTAG_ORIENTATION, 1);
  const int photometric = file.tag<std::uint16_t>(TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
  return {{static_cast<int>(width), static_cast<int>(height)},
          orientation >= 1 && orientation <= 8 ? orientation : 1,
          file.tag<std::uint16_t>(TIFFTAG_BITSPERSAMPLE, 1) == 16 &&
              (photometric == PHOTOMETRIC_MINISBLACK || photometric == PHOTOMETRIC_MINISWHITE)};
}

// How the samples of a file become pixels.
struct Samples {
  int bits = 8;             // 1, 8 or 16
  std::size_t stored = 1;   // of a pixel, side by side
  std::size_t kept = 1;     // of them: the first 1 or 3
  bool separate = false;    // each sample has a plane of its own
  bool white_is_0 = false;  // grey
  Depth16 depth;
  std::array<const std::uint16_t*, 3> palette{};  // 256 entries each; null where there is none

  std::size_t channels() const { return palette[0] != nullptr ? 3 : kept; }
  std::uint64_t bytes_of(std::uint64_t pixels) const {
    return (pixels * (separate ? 1 : stored) * static_cast<std::uint64_t>(bits) + 7) / 8;
  }

  std::uint8_t value(const std::uint8_t* row, std::size_t sample) const {
    std::uint32_t value = 0, most = 255;
    if (bits == 16) {
      std::uint16_t wide = 0;  // in this machine's byte order
      std::memcpy(&wide, row + 2 * sample, sizeof wide);
      value = wide;
      most = 65535;
    } else {
      value = bits == 8 ? row[sample] : ((row[sample / 8] >> (7 - sample % 8)) & 1) * 255u;
    }
    if (white_is_0) value = most - value;
    if (bits < 16) return static_cast<std::uint8_t>(value);
    return depth.reduced(value);
  }

  // `pixels` of a row or of a tile's row, to [pixels, channels of this plane].
  void convert(const std::uint8_t* row, std::size_t pixels, std::uint8_t* to) const {
    const std::size_t step = separate ? 1 : stored, count = separate ? 1 : kept;
    for (std::size_t x = 0; x < pixels; ++x)
      for (std::size_t channel = 0; channel < count; ++channel) {
        const std::uint8_t one = value(row, x * step + channel);
        if (palette[0] == nullptr)
          *to++ = one;
        else
          for (const std::uint16_t* color : palette) *to++ = static_cast<std::uint8_t>(color[one] >> 8);
      }
  }
};

Samples samples_of(const TiffFile& file, Depth16 depth) {
  Samples samples;
  samples.bits = file.tag<std::uint16_t>(TIFFTAG_BITSPERSAMPLE, 1);
  samples.stored = file.tag<std::uint16_t>(TIFFTAG_SAMPLESPERPIXEL, 1);
  samples.separate = file.tag<std::uint16_t>(TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG) == PLANARCONFIG_SEPARATE;
  samples.depth = depth;
  const int photometric = file.tag<std::uint16_t>(TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
  const int format = file.tag<std::uint16_t>(TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT);
  const bool jpeg = file.tag<std::uint16_t>(TIFFTAG_COMPRESSION, COMPRESSION_NONE) == COMPRESSION_JPEG;
  if (format != SAMPLEFORMAT_UINT && format != SAMPLEFORMAT_VOID)
    file.refuse(
        format == SAMPLEFORMAT_IEEEFP ? "floating-point samples" : "samples of format " + std::to_string(format),
        "unsigned integers");
  if (samples.bits != 8 && samples.bits != 16 && !(samples.bits == 1 && samples.stored == 1))
    file.refuse(std::to_string(samples.bits) + " bits a sample", "8 or 16, or 1 of black and white");
  const bool grey = photometric == PHOTOMETRIC_MINISBLACK || photometric == PHOTOMETRIC_MINISWHITE;
  const bool palette = photometric == PHOTOMETRIC_PALETTE && samples.bits == 8 && samples.stored == 1;
  const bool rgb = photometric == PHOTOMETRIC_RGB || (photometric == PHOTOMETRIC_YCBCR && jpeg);
  if ((!grey && !palette && !rgb) || samples.stored < (rgb ? 3u : 1u) || samples.stored > 16)
    file.refuse(std::to_string(samples.stored) + " samples a pixel of photometric interpretation " +
                    std::to_string(photometric),
                "grey, RGB or an 8-bit palette");
  samples.white_is_0 = photometric == PHOTOMETRIC_MINISWHITE;
  samples.kept = rgb ? 3 : 1;
  if (rgb && depth.rule == Depth16::Rule::scaled) samples.depth = {};
  if (photometric == PHOTOMETRIC_YCBCR) TIFFSetField(file.get(), TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
  if (palette) {
    std::array<std::uint16_t*, 3> colors{};
    if (TIFFGetField(file.get(), TIFFTAG_COLORMAP, &colors[0], &colors[1], &colors[2]) != 1)
      file.refuse("a palette that is missing", "one");
    std::copy(colors.begin(), colors.end(), samples.palette.begin());
  }
  return samples;
}

std::vector<std::uint8_t> chunk_buffer(const TiffFile& file, std::uint64_t bytes, std::uint64_t least) {
  if (bytes > most_chunk_bytes)
    file.refuse("rows or tiles of " + std::to_string(bytes) + " bytes", "at most " + std::to_string(most_chunk_bytes));
  file.check(bytes >= least && bytes > 0);
  return std::vector<std::uint8_t>(static_cast<std::size_t>(bytes));
}

// Samples from `first` on, [height, width, channels of the plane].
std::vector<std::uint8_t> read_strips(const TiffFile& file, const Samples& samples, ImageSize size,
                                      std::size_t channels, std::uint16_t first) {
  const auto width = static_cast<std::size_t>(size.width);
  auto row = chunk_buffer(file, TIFFScanlineSize64(file.get()), samples.bytes_of(width));
  std::vector<std::uint8_t> pixels;
  for (int y = 0; y < size.height; ++y) {
    file.check(TIFFReadScanline(file.get(), row.data(), static_cast<std::uint32_t>(y), first) == 1);
    pixels.resize(pixels.size() + width * channels);
    samples.convert(row.data(), width, pixels.data() + pixels.size() - width * channels);
  }
  return pixels;
}

std::vector<std::uint8_t> read_tiles(const TiffFile& file, const Samples& samples, ImageSize size, std::size_t channels,
                                     std::uint16_t first) {
  const auto width = static_cast<std::size_t>(size.width), height = static_cast<std::size_t>(size.height);
  const std::size_t tile_width = file.tag<std::uint32_t>(TIFFTAG_TILEWIDTH, 0),
                    tile_height = file.tag<std::uint32_t>(TIFFTAG_TILELENGTH, 0);
  const std::uint64_t row_bytes = TIFFTileRowSize64(file.get());
  file.check(tile_width > 0 && tile_height > 0 && row_bytes >= samples.bytes_of(tile_width));
  auto tile = chunk_buffer(file, TIFFTileSize64(file.get()), row_bytes * tile_height);
  std::vector<std::uint8_t> pixels;
  for (std::size_t top = 0; top < height; top += tile_height) {
    const std::size_t rows = std::min(tile_height, height - top);
    pixels.resize((top + rows) * width * channels);
    for (std::size_t left = 0; left < width; left += tile_width) {
      file.check(TIFFReadTile(file.get(), tile.data(), static_cast<std::uint32_t>(left),
                              static_cast<std::uint32_t>(top), 0, first) >= 0);
      for (std::size_t y = 0; y < rows; ++y)
        samples.convert(tile.data() + y * row_bytes, std::min(tile_width, width - left),
                        pixels.data() + ((top + y) * width + left) * channels);
    }
  }
  return pixels;
}

}  // namespace

bool is_tiff(std::string_view bytes) {
  const std::string_view start = bytes.substr(0, 4);
  return start == std::string_view("II*\0", 4) || start == std::string_view("MM\0*", 4) ||
         start == std::string_view("II+\0", 4) || start == std::string_view("MM\0+", 4);
}

Header read_tiff_header(std::string_view bytes, const std::string& name) {
  return header_of(TiffFile(bytes, name), name);
}

Image decode_tiff(std::string_view bytes, const std::string& name, Depth16 depth) {
  TiffFile file(bytes, name);
  const ImageSize size = header_of(file, name).size;
  const Samples samples = samples_of(file, depth);
  file.begin_pixels();
  const auto& read_plane = TIFFIsTiled(file.get()) != 0 ? read_tiles : read_strips;
  Image image;
  image.width = size.width;
  image.height = size.height;
  image.channels = static_cast<int>(samples.channels());
  if (!samples.separate || samples.kept == 1) {
    image.pixels = read_plane(file, samples, size, samples.channels(), 0);
    return image;
  }
  for (std::size_t channel = 0; channel < samples.kept; ++channel) {
    const auto plane = read_plane(file, samples, size, 1, static_cast<std::uint16_t>(channel));
    image.pixels.resize(plane.size() * samples.kept);
    for (std::size_t i = 0; i < plane.size(); ++i) image.pixels[i * samples.kept + channel] = plane[i];
  }
  return image;
}

}  // namespace filo::image_formats
