#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.hpp"
#include "data/images/image.hpp"

namespace filo {

namespace {

std::uint8_t mix(std::uint8_t from, std::uint8_t to, float share) {
  return static_cast<std::uint8_t>(static_cast<float>(from) +
                                   (static_cast<float>(to) - static_cast<float>(from)) * share + 0.5f);
}

float clamped(float value) { return value > 0.0f ? std::min(value, 1.0f) : 0.0f; }  // NaN is not > 0

// Bilinear, pixel centres at +0.5.
class MapSampler {
 public:
  MapSampler(const float* map, int height, int width) : map_(map), height_(height), width_(width) {}

  float at(float x, float y) const {  // in units of map pixels
    x = std::clamp(x - 0.5f, 0.0f, static_cast<float>(width_ - 1));
    y = std::clamp(y - 0.5f, 0.0f, static_cast<float>(height_ - 1));
    const int left = static_cast<int>(x), top = static_cast<int>(y);
    const int right = std::min(left + 1, width_ - 1), bottom = std::min(top + 1, height_ - 1);
    const float across = x - static_cast<float>(left), down = y - static_cast<float>(top);
    const float upper = value(left, top) * (1 - across) + value(right, top) * across;
    const float lower = value(left, bottom) * (1 - across) + value(right, bottom) * across;
    return upper * (1 - down) + lower * down;
  }

 private:
  float value(int x, int y) const {
    return clamped(map_[static_cast<std::size_t>(y) * static_cast<std::size_t>(width_) + static_cast<std::size_t>(x)]);
  }
  const float* map_;
  int height_, width_;
};

}  // namespace

Color heat_color(float value) {
  static constexpr std::array<Color, 7> stops = {
      {{12, 10, 48}, {66, 16, 104}, {130, 32, 112}, {196, 52, 86}, {238, 104, 44}, {250, 178, 44}, {252, 246, 168}}};
  const float position = clamped(value) * static_cast<float>(stops.size() - 1);
  const std::size_t lower = std::min(static_cast<std::size_t>(position), stops.size() - 2);
  const float share = position - static_cast<float>(lower);
  const Color &from = stops[lower], &to = stops[lower + 1];
  return {mix(from.red, to.red, share), mix(from.green, to.green, share), mix(from.blue, to.blue, share)};
}

Image overlay_heat_map(const Image& photo, const float* map, int map_height, int map_width) {
  if (map_height < 1 || map_width < 1)
    throw Error("image: heat map",
                "is " + std::to_string(map_width) + " x " + std::to_string(map_height) + ", expected at least 1 x 1");
  Image result = to_rgb(photo);
  const MapSampler sampler(map, map_height, map_width);
  const float across = static_cast<float>(map_width) / static_cast<float>(result.width);
  const float down = static_cast<float>(map_height) / static_cast<float>(result.height);
  for (int y = 0; y < result.height; ++y)
    for (int x = 0; x < result.width; ++x) {
      const float value = sampler.at((static_cast<float>(x) + 0.5f) * across, (static_cast<float>(y) + 0.5f) * down);
      const Color color = heat_color(value);
      const float share = 0.35f + 0.35f * value;
      std::uint8_t* pixel = result.pixels.data() + result.offset(x, y);
      pixel[0] = mix(pixel[0], color.red, share);
      pixel[1] = mix(pixel[1], color.green, share);
      pixel[2] = mix(pixel[2], color.blue, share);
    }
  return result;
}

Image draw_contour(Image photo, const Image& mask, Color color) {
  Image result = to_rgb(std::move(photo));
  const Image grey = to_grey(mask);
  const auto inside = [&](int x, int y) {
    if (x < 0 || y < 0 || x >= result.width || y >= result.height) return false;
    const auto mask_x = static_cast<int>(static_cast<std::int64_t>(x) * grey.width / result.width);
    const auto mask_y = static_cast<int>(static_cast<std::int64_t>(y) * grey.height / result.height);
    return grey.pixels[grey.offset(mask_x, mask_y)] > 0;
  };
  const int thickness = std::max(1, std::min(result.width, result.height) / 250);
  for (int y = 0; y < result.height; ++y)
    for (int x = 0; x < result.width; ++x) {
      if (!inside(x, y)) continue;
      const bool edge = !inside(x - thickness, y) || !inside(x + thickness, y) || !inside(x, y - thickness) ||
                        !inside(x, y + thickness);
      if (!edge) continue;
      std::uint8_t* pixel = result.pixels.data() + result.offset(x, y);
      pixel[0] = color.red;
      pixel[1] = color.green;
      pixel[2] = color.blue;
    }
  return result;
}

namespace {

Image scaled_to(const Image& image, int width, int height) {
  return to_rgb(resize_image(image, std::max(1, width), std::max(1, height), ResizeFilter::bicubic));
}

}  // namespace

Image join_horizontally(const std::vector<Image>& images) {
  if (images.empty()) throw Error("image: join", "no images, expected at least one");
  const int height = images.front().height;
  std::vector<Image> scaled;
  int width = 0;
  for (const Image& image : images) {
    scaled.push_back(scaled_to(image, static_cast<int>(std::int64_t{image.width} * height / image.height), height));
    width += scaled.back().width;
  }
  Image result(width, height, 3);
  int left = 0;
  for (const Image& image : scaled) {
    for (int y = 0; y < height; ++y)
      std::copy_n(image.pixels.data() + image.offset(0, y), static_cast<std::size_t>(image.width) * 3,
                  result.pixels.data() + result.offset(left, y));
    left += image.width;
  }
  return result;
}

Image join_vertically(const std::vector<Image>& images) {
  if (images.empty()) throw Error("image: join", "no images, expected at least one");
  Image result(images.front().width, 0, 3);
  for (const Image& image : images) {
    const Image scaled =
        scaled_to(image, result.width, static_cast<int>(std::int64_t{image.height} * result.width / image.width));
    result.pixels.insert(result.pixels.end(), scaled.pixels.begin(), scaled.pixels.end());
    result.height += scaled.height;
  }
  return result;
}

}  // namespace filo
