// The rasteriser behind data/generate/generate.hpp: signed distances, noise, and a camera. Not for use elsewhere.
//
// Product space: x to the right, y down, the visible square about -1..1. A signed distance is negative inside a shape.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/random.hpp"

namespace filo::drawing {

struct Point {
  float x = 0, y = 0;
};
inline Point operator+(Point a, Point b) { return {a.x + b.x, a.y + b.y}; }
inline Point operator-(Point a, Point b) { return {a.x - b.x, a.y - b.y}; }
inline Point operator*(Point a, float s) { return {a.x * s, a.y * s}; }
inline float dot(Point a, Point b) { return a.x * b.x + a.y * b.y; }
inline float length(Point a) { return std::sqrt(dot(a, a)); }
inline Point rotated(Point p, float angle) {
  const float c = std::cos(angle), s = std::sin(angle);
  return {c * p.x - s * p.y, s * p.x + c * p.y};
}
inline Point at_angle(float angle, float radius) { return {radius * std::cos(angle), radius * std::sin(angle)}; }

struct Rgb {
  float r = 0, g = 0, b = 0;
};
inline Rgb operator+(Rgb a, Rgb b) { return {a.r + b.r, a.g + b.g, a.b + b.b}; }
inline Rgb operator*(Rgb a, float s) { return {a.r * s, a.g * s, a.b * s}; }
inline Rgb mix(Rgb a, Rgb b, float share) { return a * (1 - share) + b * share; }

inline float smooth_step(float low, float high, float x) {
  const float t = std::clamp((x - low) / (high - low), 0.0f, 1.0f);
  return t * t * (3 - 2 * t);
}

using Shape = std::function<float(Point)>;  // signed distance
using Paint = std::function<Rgb(Point)>;

float disc(Point p, float radius);
float ring(Point p, float inner, float outer);
float rectangle(Point p, float half_width, float half_height, float corner);
float segment(Point p, Point from, Point to, float half_width);
float gear_wheel(Point p, float radius, int teeth, float tooth_height);

// Value noise, -1..1, smooth over one unit.
class Noise {
 public:
  explicit Noise(std::uint64_t seed) : seed_(static_cast<std::uint32_t>(seed ^ (seed >> 32))) {}
  float value(float x, float y) const;
  // Octaves of value(), halved in size and weight; about -1..1.
  float fractal(float x, float y, int octaves) const;

 private:
  float corner(int x, int y) const;
  std::uint32_t seed_;
};

// Where the camera stands: product space to image.
struct Camera {
  float angle = 0;
  float scale = 1;
  Point shift;
};

class Canvas {
 public:
  Canvas(int size, const Camera& camera);

  int size() const { return size_; }
  float pixel() const { return pixel_; }  // width of a pixel in product space
  Point to_product(int x, int y) const;

  // How much of a pixel a shape covers, from the distance at its centre.
  float coverage(float distance) const { return std::clamp(0.5f - distance / pixel_, 0.0f, 1.0f); }

  // Calls shade(point, colour so far) -> colour for the pixels within `reach` of `center`.
  template <typename Shade>
  void shade(Point center, float reach, const Shade& shade_pixel) {
    visit(center, reach, [&](Point p, std::size_t i) { colors_[i] = shade_pixel(p, colors_[i]); });
  }

  // Like shade, for defects: shade_pixel returns {colour, alpha}; a pixel at least half covered belongs to the mask.
  struct Mark {
    Rgb color;
    float alpha = 0;     // how much of the colour replaces what was there
    float coverage = 0;  // how much of the pixel is defective
  };
  template <typename Shade>
  void mark(Point center, float reach, const Shade& shade_pixel) {
    visit(center, reach, [&](Point p, std::size_t i) {
      const Mark drawn = shade_pixel(p, colors_[i]);
      colors_[i] = mix(colors_[i], drawn.color, drawn.alpha);
      mask_[i] = std::max(mask_[i], drawn.coverage);
    });
  }

  std::vector<Rgb>& colors() { return colors_; }
  const std::vector<float>& mask() const { return mask_; }

 private:
  template <typename Visit>
  void visit(Point center, float reach, const Visit& call) {
    const Point middle = rotated(center, camera_.angle) * camera_.scale + camera_.shift;
    const float half = static_cast<float>(size_) / 2, radius = (reach * camera_.scale) * half + 1.5f;
    const auto bound = [&](float value) { return std::clamp(static_cast<int>(value), 0, size_); };
    const int left = bound((middle.x + 1) * half - radius), right = bound((middle.x + 1) * half + radius + 1);
    const int top = bound((middle.y + 1) * half - radius), bottom = bound((middle.y + 1) * half + radius + 1);
    for (int y = top; y < bottom; ++y)
      for (int x = left; x < right; ++x)
        call(to_product(x, y),
             static_cast<std::size_t>(y) * static_cast<std::size_t>(size_) + static_cast<std::size_t>(x));
  }

  int size_;
  Camera camera_;
  float pixel_;
  float cosine_, sine_;
  std::vector<Rgb> colors_;
  std::vector<float> mask_;
};

// Floats of the project's random stream.
inline float uniform(Random& random, float low, float high) {
  return static_cast<float>(random.uniform(static_cast<double>(low), static_cast<double>(high)));
}
inline bool chance(Random& random, double probability) { return random.uniform() < probability; }

}  // namespace filo::drawing
