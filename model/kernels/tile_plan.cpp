#include <cassert>
#include <cmath>
#include <numbers>

#include "model/kernels/tile_transform.hpp"

namespace filo::kernels {
namespace {

template <typename T>
void fill(std::int64_t n, std::vector<T>& cos, std::vector<T>& sin) {
  const std::int64_t half = n / 2, row = table_row(n);
  cos.resize(static_cast<std::size_t>((half + 1) * row));
  sin.resize(cos.size());
  for (std::int64_t k = 0; k <= half; ++k) {
    for (std::int64_t j = 0; j <= half; ++j) {
      const double angle = 2 * std::numbers::pi * static_cast<double>(k * j % n) / static_cast<double>(n);
      cos[static_cast<std::size_t>(k * row + j)] = static_cast<T>(std::cos(angle));
      sin[static_cast<std::size_t>(k * row + j)] = static_cast<T>(std::sin(angle));
    }
  }
}

}  // namespace

template <typename T>
TilePlan<T>::TilePlan(std::int64_t height, std::int64_t width) : height_(height), width_(width) {
  assert(height >= 1 && height <= largest_tile_side && width >= 1 && width <= largest_tile_side);
  fill(height, cos_y_, sin_y_);
  fill(width, cos_x_, sin_x_);
}

template <typename T>
std::int64_t TilePlan<T>::frequencies() const {
  const std::int64_t real_columns = width_ % 2 == 0 ? 2 : 1;
  return real_columns * (height_ / 2 + 1) + (width_ / 2 + 1 - real_columns) * height_;
}

template <typename T>
TileTables<T> TilePlan<T>::tables() const {
  return {height_, width_, cos_y_.data(), sin_y_.data(), cos_x_.data(), sin_x_.data()};
}

template class TilePlan<float>;
template class TilePlan<double>;

}  // namespace filo::kernels
