// Compiled once per instruction set, as row_kernels_isa.cpp. (TilePlan's vectors are only read here, through their
// data().)
#include "model/kernels/tile_transform.hpp"
#include "model/kernels/vector.hpp"

namespace filo::kernels::FILO_ISA {
namespace {

constexpr std::int64_t largest_side = largest_tile_side;
constexpr std::int64_t largest_half = table_row(largest_side);
constexpr std::int64_t lines = tile_table_block;  // results at once: each operand is loaded once for all of them

// cosine[k] = sum over j of in[j] cos(2 pi k j / n), k = 0 .. n / 2; sine[k] likewise, zero where k is 0 or n / 2.
// Folding j with n - j halves the work. Up to lines - 1 more elements are written.
template <typename T>
inline void half_transform(std::int64_t n, const T* cos, const T* sin, const Vec<T>* in, Vec<T>* cosine, Vec<T>* sine) {
  const std::int64_t half = n / 2, pairs = (n - 1) / 2, row = table_row(n);
  Vec<T> even[largest_half], odd[largest_half];
  for (std::int64_t j = 1; j <= pairs; ++j) {
    even[j] = in[j] + in[n - j];
    odd[j] = in[j] - in[n - j];
  }
  for (std::int64_t k = 0; k <= half; k += lines) {
    Vec<T> c[lines], s[lines];
#pragma GCC unroll 8
    for (std::int64_t i = 0; i < lines; ++i) {
      c[i] = in[0];
      s[i] = Vec<T>{};
    }
    for (std::int64_t j = 1; j <= pairs; ++j) {
#pragma GCC unroll 8
      for (std::int64_t i = 0; i < lines; ++i) {
        c[i] += even[j] * cos[j * row + k + i];
        s[i] += odd[j] * sin[j * row + k + i];
      }
    }
#pragma GCC unroll 8
    for (std::int64_t i = 0; i < lines; ++i) {
      cosine[k + i] = half != pairs ? c[i] + in[half] * cos[half * row + k + i] : c[i];
      sine[k + i] = s[i];
    }
  }
}

// out[i] = sum over k = 0 .. n / 2 of cosine[k] cos(2 pi k i / n) + sine[k] sin(2 pi k i / n), i = 0 .. n - 1.
template <typename T>
inline void half_inverse(std::int64_t n, const T* cos, const T* sin, const Vec<T>* cosine, const Vec<T>* sine,
                         Vec<T>* out) {
  const std::int64_t half = n / 2, pairs = (n - 1) / 2, row = table_row(n);
  for (std::int64_t first = 0; first <= half; first += lines) {
    Vec<T> c[lines], s[lines];
#pragma GCC unroll 8
    for (std::int64_t i = 0; i < lines; ++i) {
      c[i] = cosine[0];
      s[i] = Vec<T>{};
    }
    for (std::int64_t k = 1; k <= half; ++k) {
#pragma GCC unroll 8
      for (std::int64_t i = 0; i < lines; ++i) {
        c[i] += cosine[k] * cos[k * row + first + i];
        s[i] += sine[k] * sin[k * row + first + i];
      }
    }
    for (std::int64_t i = 0; i < lines && first + i <= half; ++i) {
      out[first + i] = c[i] + s[i];
      if (first + i > 0 && first + i <= pairs) out[n - first - i] = c[i] - s[i];
    }
  }
}

inline bool own_conjugate(std::int64_t k, std::int64_t n) { return k == 0 || 2 * k == n; }

template <typename T>
inline void store_frequency(const SpectrumView<T>& out, std::int64_t frequency, std::int64_t channel,
                            std::int64_t count, ThirdPlane third, Vec<T> re, Vec<T> im) {
  T* p = out.data + frequency * out.frequency_stride + channel;
  store<T>(p, re, count);
  store<T>(p + out.plane_stride, im, count);
  store<T>(p + 2 * out.plane_stride, third == ThirdPlane::sum ? re + im : re - im, count);
}

template <typename T>
void forward(const TileTables<T>& tables, const TileView<const T>& tile, std::int64_t channels, ThirdPlane third,
             const SpectrumView<T>& spectrum) {
  const std::int64_t height = tables.height, width = tables.width, half_x = width / 2, half_y = height / 2;
  const T *cos_y = tables.cos_y, *sin_y = tables.sin_y, *cos_x = tables.cos_x, *sin_x = tables.sin_x;
  Vec<T> cosine[largest_half][largest_side], sine[largest_half][largest_side];  // [kx][i]
  Vec<T> line[largest_side], line_cosine[largest_half], line_sine[largest_half];
  for (std::int64_t channel = 0; channel < channels; channel += Vector<T>::lanes) {
    const std::int64_t count = channels - channel;
    for (std::int64_t i = 0; i < height; ++i) {
      if (i < tile.first_y || i >= tile.end_y) {
        for (std::int64_t k = 0; k <= half_x; ++k) cosine[k][i] = sine[k][i] = Vec<T>{};
        continue;
      }
      for (std::int64_t j = 0; j < width; ++j) {
        const bool there = j >= tile.first_x && j < tile.end_x;
        line[j] = there ? load<T>(tile.data + i * tile.stride_y + j * tile.stride_x + channel, count) : Vec<T>{};
      }
      half_transform<T>(width, cos_x, sin_x, line, line_cosine, line_sine);
      for (std::int64_t k = 0; k <= half_x; ++k) {
        cosine[k][i] = line_cosine[k];
        sine[k][i] = line_sine[k];
      }
    }
    std::int64_t frequency = 0;
    for (std::int64_t kx = 0; kx <= half_x; ++kx) {
      Vec<T> cc[largest_half], cs[largest_half], sc[largest_half], ss[largest_half];
      half_transform<T>(height, cos_y, sin_y, cosine[kx], cc, cs);
      if (own_conjugate(kx, width)) {
        for (std::int64_t k = 0; k <= half_y; ++k) {
          store_frequency<T>(spectrum, frequency + k, channel, count, third, cc[k], -cs[k]);
        }
        frequency += half_y + 1;
        continue;
      }
      half_transform<T>(height, cos_y, sin_y, sine[kx], sc, ss);
      for (std::int64_t k = 0; k <= half_y; ++k) {
        store_frequency<T>(spectrum, frequency + k, channel, count, third, cc[k] - ss[k], -(cs[k] + sc[k]));
        if (own_conjugate(k, height)) continue;
        store_frequency<T>(spectrum, frequency + height - k, channel, count, third, cc[k] + ss[k], cs[k] - sc[k]);
      }
      frequency += height;
    }
  }
}

template <typename T>
struct Complex {
  Vec<T> re, im;
};

template <typename T>
inline Complex<T> load_product(const SpectrumView<const T>& in, std::int64_t frequency, std::int64_t channel,
                               std::int64_t count, Product product) {
  const T* p = in.data + frequency * in.frequency_stride + channel;
  const Vec<T> a = load<T>(p, count), b = load<T>(p + in.plane_stride, count),
               c = load<T>(p + 2 * in.plane_stride, count);
  if (product == Product::with_conjugate) return {a + b, c - a + b};
  return {a - b, a + b - c};
}

template <typename T>
void inverse(const TileTables<T>& tables, const SpectrumView<const T>& spectrum, std::int64_t channels, Product product,
             bool add, const TileView<T>& tile) {
  const std::int64_t height = tables.height, width = tables.width, half_x = width / 2, half_y = height / 2;
  const T *cos_y = tables.cos_y, *sin_y = tables.sin_y, *cos_x = tables.cos_x, *sin_x = tables.sin_x;
  const T scale = T(1) / static_cast<T>(height * width);
  Vec<T> re[largest_half][largest_side], im[largest_half][largest_side];  // [kx][i]
  for (std::int64_t channel = 0; channel < channels; channel += Vector<T>::lanes) {
    const std::int64_t count = channels - channel;
    std::int64_t frequency = 0;
    for (std::int64_t kx = 0; kx <= half_x; ++kx) {
      Vec<T> re_cosine[largest_half], re_sine[largest_half], im_cosine[largest_half], im_sine[largest_half];
      const bool real = own_conjugate(kx, width);
      for (std::int64_t k = 0; k <= half_y; ++k) {
        const Complex<T> a = load_product<T>(spectrum, frequency + k, channel, count, product);
        if (own_conjugate(k, height)) {
          re_cosine[k] = a.re;
          im_cosine[k] = a.im;
          re_sine[k] = im_sine[k] = Vec<T>{};
        } else if (real) {  // the other half is the conjugate
          re_cosine[k] = a.re + a.re;
          re_sine[k] = -a.im - a.im;
        } else {
          const Complex<T> b = load_product<T>(spectrum, frequency + height - k, channel, count, product);
          re_cosine[k] = a.re + b.re;
          re_sine[k] = b.im - a.im;
          im_cosine[k] = a.im + b.im;
          im_sine[k] = a.re - b.re;
        }
      }
      half_inverse<T>(height, cos_y, sin_y, re_cosine, re_sine, re[kx]);
      if (!real) half_inverse<T>(height, cos_y, sin_y, im_cosine, im_sine, im[kx]);
      frequency += real ? half_y + 1 : height;
    }
    for (std::int64_t i = tile.first_y; i < tile.end_y; ++i) {
      Vec<T> line[largest_side], line_cosine[largest_half], line_sine[largest_half];
      for (std::int64_t kx = 0; kx <= half_x; ++kx) {
        const bool real = own_conjugate(kx, width);
        line_cosine[kx] = re[kx][i] * (real ? scale : 2 * scale);
        line_sine[kx] = real ? Vec<T>{} : im[kx][i] * (-2 * scale);
      }
      half_inverse<T>(width, cos_x, sin_x, line_cosine, line_sine, line);
      for (std::int64_t j = tile.first_x; j < tile.end_x; ++j) {
        T* p = tile.data + i * tile.stride_y + j * tile.stride_x + channel;
        store<T>(p, add ? load<T>(p, count) + line[j] : line[j], count);
      }
    }
  }
}

}  // namespace

extern const TileTransform<float> float_tile_transform;
extern const TileTransform<double> double_tile_transform;
const TileTransform<float> float_tile_transform = {forward<float>, inverse<float>};
const TileTransform<double> double_tile_transform = {forward<double>, inverse<double>};

}  // namespace filo::kernels::FILO_ISA
