#include "data/generate/canvas.hpp"

#include <numbers>

namespace filo::drawing {

float disc(Point p, float radius) { return length(p) - radius; }

float ring(Point p, float inner, float outer) {
  const float distance = length(p);
  return std::max(distance - outer, inner - distance);
}

float rectangle(Point p, float half_width, float half_height, float corner) {
  const float x = std::abs(p.x) - half_width + corner, y = std::abs(p.y) - half_height + corner;
  return length({std::max(x, 0.0f), std::max(y, 0.0f)}) + std::min(std::max(x, y), 0.0f) - corner;
}

float segment(Point p, Point from, Point to, float half_width) {
  const Point along = to - from, offset = p - from;
  const float square = dot(along, along);
  const float share = square > 0 ? std::clamp(dot(offset, along) / square, 0.0f, 1.0f) : 0.0f;
  return length(offset - along * share) - half_width;
}

float gear_wheel(Point p, float radius, int teeth, float tooth_height) {
  const float wave = std::cos(static_cast<float>(teeth) * std::atan2(p.y, p.x));
  return (length(p) - radius - tooth_height * smooth_step(-0.35f, 0.35f, wave)) * 0.8f;
}

float Noise::corner(int x, int y) const {
  std::uint32_t h =
      seed_ ^ (static_cast<std::uint32_t>(x) * 0x8da6b343u) ^ (static_cast<std::uint32_t>(y) * 0xd8163841u);
  h = (h ^ (h >> 15)) * 0x2c1b3c6du;
  h = (h ^ (h >> 12)) * 0x297a2d39u;
  h ^= h >> 15;
  return static_cast<float>(h >> 8) * (2.0f / 16777216.0f) - 1.0f;
}

float Noise::value(float x, float y) const {
  const float floor_x = std::floor(x), floor_y = std::floor(y);
  const int column = static_cast<int>(floor_x), row = static_cast<int>(floor_y);
  const float u = smooth_step(0, 1, x - floor_x), v = smooth_step(0, 1, y - floor_y);
  const float upper = corner(column, row) * (1 - u) + corner(column + 1, row) * u;
  const float lower = corner(column, row + 1) * (1 - u) + corner(column + 1, row + 1) * u;
  return upper * (1 - v) + lower * v;
}

float Noise::fractal(float x, float y, int octaves) const {
  float sum = 0, weight = 0.6f;
  for (int octave = 0; octave < octaves; ++octave) {
    sum += weight * value(x, y);
    x = 2.03f * x + 17.3f;
    y = 2.03f * y - 9.1f;
    weight *= 0.5f;
  }
  return sum;
}

Canvas::Canvas(int size, const Camera& camera)
    : size_(size),
      camera_(camera),
      pixel_(2.0f / (static_cast<float>(size) * camera.scale)),
      cosine_(std::cos(camera.angle)),
      sine_(std::sin(camera.angle)),
      colors_(static_cast<std::size_t>(size) * static_cast<std::size_t>(size)),
      mask_(colors_.size()) {}

Point Canvas::to_product(int x, int y) const {
  const float step = 2.0f / static_cast<float>(size_);
  const Point p =
      Point{(static_cast<float>(x) + 0.5f) * step - 1, (static_cast<float>(y) + 0.5f) * step - 1} - camera_.shift;
  const Point turned = {cosine_ * p.x + sine_ * p.y, cosine_ * p.y - sine_ * p.x};
  return turned * (1 / camera_.scale);
}

}  // namespace filo::drawing
