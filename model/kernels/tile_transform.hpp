// Discrete Fourier transform of small two-dimensional tiles, many channels at once: the transform of tiled convolution.
// Raw pointers, no torch. CPU. Thread-safe.
//
// A real tile x[height][width] has, with x real, this half of its spectrum (the rest is its conjugate):
//   X[ky, kx] = sum over i, j of x[i, j] exp(-2 pi i (ky i / height + kx j / width)),
// kx = 0 .. width / 2, and ky = 0 .. height - 1, or 0 .. height / 2 where kx is its own conjugate (0 or width / 2).
//
// A product of two spectra takes three real products in place of four, so a spectrum is stored as three planes
// [3, frequencies, rows, channels], and so is the product of two, plane by plane.
#pragma once

#include <cstdint>
#include <vector>

namespace filo::kernels {

constexpr std::int64_t largest_tile_side = 32;

// Rows of the tables are padded to whole blocks of this many elements.
constexpr std::int64_t tile_table_block = 4;
constexpr std::int64_t table_row(std::int64_t n) {
  return (n / 2 + 1 + tile_table_block - 1) / tile_table_block * tile_table_block;
}

// cos and sin of 2 pi k j / n, [n / 2 + 1][table_row(n)] for k, j = 0 .. n / 2 (zero beyond), of each axis.
template <typename T>
struct TileTables {
  std::int64_t height = 0, width = 0;  // 1 .. largest_tile_side
  const T *cos_y = nullptr, *sin_y = nullptr, *cos_x = nullptr, *sin_x = nullptr;
};

// Owns the tables of one tile size; both sides are 1 .. largest_tile_side.
template <typename T>
class TilePlan {
 public:
  TilePlan(std::int64_t height, std::int64_t width);

  std::int64_t height() const { return height_; }
  std::int64_t width() const { return width_; }
  std::int64_t frequencies() const;  // complex ones
  TileTables<T> tables() const;      // valid while this object lives

 private:
  std::int64_t height_, width_;
  std::vector<T> cos_y_, sin_y_, cos_x_, sin_x_;
};

// Where a tile's values lie: element (i, j) of channel c is at data[i * stride_y + j * stride_x + c], for i in
// [first_y, end_y) and j in [first_x, end_x); outside that part the tile is zero (forward) or not wanted (inverse).
template <typename T>
struct TileView {
  T* data = nullptr;
  std::int64_t stride_y = 0, stride_x = 0;
  std::int64_t first_y = 0, end_y = 0, first_x = 0, end_x = 0;
};

// Frequency f of plane p of channel c is at data[p * plane_stride + f * frequency_stride + c].
template <typename T>
struct SpectrumView {
  T* data = nullptr;
  std::int64_t plane_stride = 0, frequency_stride = 0;
};

enum class ThirdPlane { sum, difference };  // re + im or re - im; planes 0 and 1 are re and im

enum class Product {
  with_conjugate,  // of a spectrum with ThirdPlane::sum and the conjugate of one with ThirdPlane::difference
  of_differences,  // of two spectra with ThirdPlane::difference
};

template <typename T>
struct TileTransform {
  void (*forward)(const TileTables<T>& tables, const TileView<const T>& tile, std::int64_t channels, ThirdPlane third,
                  const SpectrumView<T>& spectrum);
  // Inverse of a product of spectra. Overwrites the tile's values, or adds to them.
  void (*inverse)(const TileTables<T>& tables, const SpectrumView<const T>& spectrum, std::int64_t channels,
                  Product product, bool add, const TileView<T>& tile);
};

// For the best instruction set that this processor runs (see row_kernels.hpp).
template <typename T>
const TileTransform<T>& tile_transform();

}  // namespace filo::kernels
