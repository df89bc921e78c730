#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.hpp"
#include "data/images/image.hpp"

namespace filo {

namespace {

constexpr int fraction_bits = 32 - 8 - 2;  // 8 bits of result, 2 spare for overshoot: Pillow's choice

// One output position's window in the input and its fixed-point weights.
struct Window {
  int first = 0;
  std::vector<std::int32_t> weights;
};

double bilinear_weight(double x) {
  x = std::abs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double bicubic_weight(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
  return 0.0;
}

std::vector<Window> make_windows(int input_size, int output_size, ResizeFilter filter) {
  const double scale = static_cast<double>(input_size) / output_size;
  const double stretch = std::max(scale, 1.0);
  const double support = (filter == ResizeFilter::bicubic ? 2.0 : 1.0) * stretch;
  const double inverse_stretch = 1.0 / stretch;
  std::vector<Window> windows(static_cast<std::size_t>(output_size));
  std::vector<double> weights;
  for (int i = 0; i < output_size; ++i) {
    const double center = (i + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(center - support + 0.5));
    const int last = std::min(input_size, static_cast<int>(center + support + 0.5));
    weights.clear();
    double sum = 0;
    for (int j = first; j < last; ++j) {
      const double x = (j - center + 0.5) * inverse_stretch;
      weights.push_back(filter == ResizeFilter::bicubic ? bicubic_weight(x) : bilinear_weight(x));
      sum += weights.back();
    }
    Window& window = windows[static_cast<std::size_t>(i)];
    window.first = first;
    for (const double weight : weights) {
      const double scaled = (sum != 0.0 ? weight / sum : weight) * (1 << fraction_bits);
      window.weights.push_back(static_cast<std::int32_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5));
    }
  }
  return windows;
}

std::uint8_t rounded(std::int32_t sum) { return static_cast<std::uint8_t>(std::clamp(sum >> fraction_bits, 0, 255)); }

constexpr std::int32_t half = 1 << (fraction_bits - 1);

Image resize_across(const Image& image, int width, ResizeFilter filter) {
  Image result(width, image.height, image.channels);
  const auto windows = make_windows(image.width, width, filter);
  const auto channels = static_cast<std::size_t>(image.channels);
  for (int y = 0; y < image.height; ++y) {
    std::uint8_t* out = result.pixels.data() + result.offset(0, y);
    for (const Window& window : windows) {
      const std::uint8_t* in = image.pixels.data() + image.offset(window.first, y);
      std::array<std::int32_t, 3> sums = {half, half, half};
      for (std::size_t i = 0; i < window.weights.size(); ++i)
        for (std::size_t channel = 0; channel < channels; ++channel)
          sums[channel] += in[i * channels + channel] * window.weights[i];
      for (std::size_t channel = 0; channel < channels; ++channel) *out++ = rounded(sums[channel]);
    }
  }
  return result;
}

Image resize_down(const Image& image, int height, ResizeFilter filter) {
  Image result(image.width, height, image.channels);
  const auto windows = make_windows(image.height, height, filter);
  const std::size_t row = static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.channels);
  std::vector<std::int32_t> sums(row);
  for (int y = 0; y < height; ++y) {
    const Window& window = windows[static_cast<std::size_t>(y)];
    std::fill(sums.begin(), sums.end(), half);
    for (std::size_t i = 0; i < window.weights.size(); ++i) {
      const std::uint8_t* in = image.pixels.data() + (static_cast<std::size_t>(window.first) + i) * row;
      for (std::size_t x = 0; x < row; ++x) sums[x] += in[x] * window.weights[i];
    }
    std::uint8_t* out = result.pixels.data() + static_cast<std::size_t>(y) * row;
    for (std::size_t x = 0; x < row; ++x) out[x] = rounded(sums[x]);
  }
  return result;
}

}  // namespace

Image resize_image(const Image& image, int width, int height, ResizeFilter filter) {
  if (width < 1 || height < 1 || width > max_image_pixels / height)
    throw Error("image: resize", "to " + std::to_string(width) + " x " + std::to_string(height) +
                                     ", expected at least 1 x 1 and at most " + std::to_string(max_image_pixels) +
                                     " pixels");
  Image result = width == image.width ? image : resize_across(image, width, filter);
  return height == image.height ? result : resize_down(result, height, filter);
}

std::vector<float> preprocess_clip(const Image& image, int image_size) {
  constexpr std::array<float, 3> mean = {0.48145466f, 0.4578275f, 0.40821073f};
  constexpr std::array<float, 3> deviation = {0.26862954f, 0.26130258f, 0.27577711f};
  const Image rgb = resize_image(to_rgb(image), image_size, image_size, ResizeFilter::bicubic);
  const std::size_t plane = static_cast<std::size_t>(image_size) * static_cast<std::size_t>(image_size);
  std::vector<float> result(3 * plane);
  for (std::size_t channel = 0; channel < 3; ++channel) {
    std::array<float, 256> table{};
    for (std::size_t value = 0; value < 256; ++value)
      table[value] = (static_cast<float>(value) / 255.0f - mean[channel]) / deviation[channel];
    for (std::size_t i = 0; i < plane; ++i) result[channel * plane + i] = table[rgb.pixels[3 * i + channel]];
  }
  return result;
}

std::vector<std::uint8_t> preprocess_mask(const Image& image, int image_size) {
  Image mask = to_grey(image);
  for (auto& pixel : mask.pixels) pixel = pixel > 0 ? 255 : 0;
  mask = resize_image(mask, image_size, image_size, ResizeFilter::bilinear);
  for (auto& pixel : mask.pixels) pixel = pixel > 127 ? 1 : 0;
  return std::move(mask.pixels);
}

}  // namespace filo
