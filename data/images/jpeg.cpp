#include <csetjmp>
#include <cstddef>
#include <cstdio>  // jpeglib.h needs FILE

#include <jpeglib.h>

#include <jerror.h>

#include "data/images/formats.hpp"

namespace filo::image_formats {

namespace {

constexpr int exif_marker = JPEG_APP0 + 1;
constexpr int max_scans = 1000;  // a progressive file of a few kB can ask for millions of passes over a large image

struct JpegState {
  jpeg_error_mgr errors{};
  jpeg_progress_mgr progress{};
  std::jmp_buf jump{};
  char message[JMSG_LENGTH_MAX] = {};
};

[[noreturn]] void on_error(j_common_ptr info) {
  auto* state = static_cast<JpegState*>(info->client_data);
  info->err->format_message(info, state->message);
  std::longjmp(state->jump, 1);
}

// libjpeg goes on after these with invented pixels.
void on_message(j_common_ptr info, int level) {
  if (level >= 0) return;
  switch (info->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_MUST_RESYNC:
      on_error(info);
    default:
      return;
  }
}

void on_progress(j_common_ptr info) {
  auto* decoder = reinterpret_cast<j_decompress_ptr>(info);
  if (decoder->input_scan_number <= max_scans) return;
  auto* state = static_cast<JpegState*>(info->client_data);
  std::snprintf(state->message, sizeof state->message, "more than %d scans", max_scans);
  std::longjmp(state->jump, 1);
}

class JpegDecoder {
 public:
  JpegDecoder() {
    info.err = jpeg_std_error(&state.errors);
    state.errors.error_exit = on_error;
    state.errors.emit_message = on_message;
    state.progress.progress_monitor = on_progress;
    info.client_data = &state;
    jpeg_create_decompress(&info);
    info.client_data = &state;
    info.progress = &state.progress;
  }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;
  ~JpegDecoder() { jpeg_destroy_decompress(&info); }

  JpegState state;
  jpeg_decompress_struct info{};
};

bool start(JpegDecoder* decoder, std::string_view bytes) {
  if (setjmp(decoder->state.jump) != 0) return false;
  jpeg_mem_src(&decoder->info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_save_markers(&decoder->info, exif_marker, 0xffff);
  jpeg_read_header(&decoder->info, TRUE);
  return true;
}

// Appends row by row, so that a file that ends early has not taken memory for all the rows it claims.
bool read_rows(JpegDecoder* decoder, std::vector<std::uint8_t>* samples) {
  if (setjmp(decoder->state.jump) != 0) return false;
  jpeg_start_decompress(&decoder->info);
  const std::size_t row_bytes =
      static_cast<std::size_t>(decoder->info.output_width) * static_cast<std::size_t>(decoder->info.output_components);
  while (decoder->info.output_scanline < decoder->info.output_height) {
    samples->resize(samples->size() + row_bytes);
    JSAMPROW row = samples->data() + samples->size() - row_bytes;
    jpeg_read_scanlines(&decoder->info, &row, 1);
  }
  jpeg_finish_decompress(&decoder->info);
  return true;
}

// Adobe's files store the inverse of ink; the arithmetic is Pillow's "CMYK" -> "RGB".
std::vector<std::uint8_t> rgb_from_inverted_cmyk(const std::vector<std::uint8_t>& cmyk) {
  std::vector<std::uint8_t> rgb(cmyk.size() / 4 * 3);
  for (std::size_t pixel = 0; pixel < cmyk.size() / 4; ++pixel) {
    const unsigned light = cmyk[4 * pixel + 3];
    for (std::size_t channel = 0; channel < 3; ++channel) {
      const unsigned product = (255u - cmyk[4 * pixel + channel]) * light + 128u;
      rgb[3 * pixel + channel] = static_cast<std::uint8_t>(light - (((product >> 8) + product) >> 8));
    }
  }
  return rgb;
}

std::string problem(const JpegDecoder& decoder) { return std::string("broken JPEG: ") + decoder.state.message; }

int orientation_of(const jpeg_decompress_struct& info) {
  constexpr std::string_view prefix{"Exif\0\0", 6};
  for (const jpeg_marker_struct* marker = info.marker_list; marker != nullptr; marker = marker->next) {
    const std::string_view data(reinterpret_cast<const char*>(marker->data), marker->data_length);
    if (marker->marker == exif_marker && data.substr(0, prefix.size()) == prefix)
      return exif_orientation(data.substr(prefix.size()));
  }
  return 1;
}

}  // namespace

bool is_jpeg(std::string_view bytes) { return bytes.substr(0, 3) == "\xff\xd8\xff"; }

Header read_jpeg_header(std::string_view bytes, const std::string& name) {
  JpegDecoder decoder;
  if (!start(&decoder, bytes)) fail(name, problem(decoder));
  check_size(decoder.info.image_width, decoder.info.image_height, name);
  return {{static_cast<int>(decoder.info.image_width), static_cast<int>(decoder.info.image_height)},
          orientation_of(decoder.info)};
}

Image decode_jpeg(std::string_view bytes, const std::string& name) {
  JpegDecoder decoder;
  if (!start(&decoder, bytes)) fail(name, problem(decoder));
  auto& info = decoder.info;
  check_size(info.image_width, info.image_height, name);
  switch (info.num_components) {
    case 1:
      info.out_color_space = JCS_GRAYSCALE;
      break;
    case 3:
      info.out_color_space = JCS_RGB;
      break;
    case 4:
      info.out_color_space = JCS_CMYK;
      break;
    default:
      fail(name, "has " + std::to_string(info.num_components) + " colour components, expected 1, 3 or 4");
  }
  Image image;
  image.width = static_cast<int>(info.image_width);
  image.height = static_cast<int>(info.image_height);
  image.channels = info.num_components == 1 ? 1 : 3;
  if (!read_rows(&decoder, &image.pixels)) fail(name, problem(decoder));
  if (info.num_components == 4) image.pixels = rgb_from_inverted_cmyk(image.pixels);
  return image;
}

}  // namespace filo::image_formats
