#include "model/kernels/deform_conv.hpp"

#include <cmath>
#include <cstring>
#include <type_traits>

namespace filo::kernels {
namespace {

// Where one tap of one row samples: up to four corners, weight zero (and any valid pixel) where a corner lies outside.
template <typename T>
struct Sample {
  bool inside = false;          // false: all four corners are outside, the sample and its gradients are zero
  std::int64_t pixels[4] = {};  // index of the corner's pixel in the image: (y0,x0) (y0,x1) (y1,x0) (y1,x1)
  bool valid[4] = {};
  T fraction_y = 0, fraction_x = 0;
};

template <typename T>
Sample<T> locate(const DeformConvShape& shape, T y, T x) {
  Sample<T> sample;
  // Written so that NaN and infinity fall outside. At -1 exactly (zero offsets, first row) the slope towards row 0
  // counts.
  if (!(y >= T(-1) && x >= T(-1) && y < T(shape.height) && x < T(shape.width))) return sample;
  sample.inside = true;
  const T floor_y = std::floor(y), floor_x = std::floor(x);
  sample.fraction_y = y - floor_y;
  sample.fraction_x = x - floor_x;
  const auto y0 = static_cast<std::int64_t>(floor_y), x0 = static_cast<std::int64_t>(floor_x);
  for (int corner = 0; corner < 4; ++corner) {
    const std::int64_t cy = y0 + corner / 2, cx = x0 + corner % 2;
    sample.valid[corner] = cy >= 0 && cy < shape.height && cx >= 0 && cx < shape.width;
    sample.pixels[corner] = sample.valid[corner] ? cy * shape.width + cx : 0;
  }
  return sample;
}

template <typename T>
void corner_weights(const Sample<T>& sample, T scale, T weights[4]) {
  const T ly = sample.fraction_y, lx = sample.fraction_x, hy = 1 - ly, hx = 1 - lx;
  weights[0] = sample.valid[0] ? hy * hx * scale : T(0);
  weights[1] = sample.valid[1] ? hy * lx * scale : T(0);
  weights[2] = sample.valid[2] ? ly * hx * scale : T(0);
  weights[3] = sample.valid[3] ? ly * lx * scale : T(0);
}

// Indices of one row and tap in the offset and mask tensors, and the sample there.
template <typename T>
struct Tap {
  std::int64_t offset_y = 0, offset_x = 0, mask = 0;
  T scale = 0;
  Sample<T> sample;
};

template <typename T>
Tap<T> tap_of(const DeformConvShape& shape, const DeformConvInput<T>& in, std::int64_t row, std::int64_t tap) {
  const std::int64_t plane = shape.height * shape.width;
  const std::int64_t image = row / plane, position = row % plane;
  Tap<T> result;
  result.offset_y = (image * 2 * shape.taps() + 2 * tap) * plane + position;
  result.offset_x = result.offset_y + plane;
  result.mask = (image * shape.taps() + tap) * plane + position;
  result.scale = in.mask ? in.mask[result.mask] : T(1);
  const std::int64_t base_y = position / shape.width + tap / shape.kernel_width - shape.kernel_height / 2;
  const std::int64_t base_x = position % shape.width + tap % shape.kernel_width - shape.kernel_width / 2;
  result.sample = locate<T>(shape, T(base_y) + in.offset[result.offset_y], T(base_x) + in.offset[result.offset_x]);
  return result;
}

// value[c]: the column's gradient times corner c; zero outside.
template <typename T>
void write_gradients(const Tap<T>& at, const T value[4], const DeformConvGradients<T>& gradients) {
  const T ly = at.sample.fraction_y, lx = at.sample.fraction_x, hy = 1 - ly, hx = 1 - lx;
  if (gradients.offset) {
    gradients.offset[at.offset_y] = at.scale * (hx * (value[2] - value[0]) + lx * (value[3] - value[1]));
    gradients.offset[at.offset_x] = at.scale * (hy * (value[1] - value[0]) + ly * (value[3] - value[2]));
  }
  if (gradients.mask) {
    gradients.mask[at.mask] = hy * (hx * value[0] + lx * value[1]) + ly * (hx * value[2] + lx * value[3]);
  }
}

}  // namespace

template <typename T, typename Column>
void gather_columns(const DeformConvShape& shape, const DeformConvInput<T>& in, std::int64_t first_row,
                    std::int64_t row_count, std::int64_t first_tap, std::int64_t tap_count, Column* columns) {
  const RowKernels<T>& kernels = row_kernels<T>();
  const std::int64_t plane = shape.height * shape.width;
  for (std::int64_t row = first_row; row < first_row + row_count; ++row) {
    const T* image = in.input + row / plane * plane * shape.channels;
    for (std::int64_t tap = first_tap; tap < first_tap + tap_count; ++tap, columns += shape.channels) {
      const Tap<T> at = tap_of(shape, in, row, tap);
      if (!at.sample.inside) {
        std::memset(columns, 0, sizeof(Column) * static_cast<std::size_t>(shape.channels));
        continue;
      }
      T weights[4];
      corner_weights(at.sample, at.scale, weights);
      const T* rows[4];
      for (int c = 0; c < 4; ++c) rows[c] = image + at.sample.pixels[c] * shape.channels;
      if constexpr (std::is_same_v<Column, T>) {
        kernels.blend(rows, weights, shape.channels, columns);
      } else {
        kernels.blend_to_bfloat16(rows, weights, shape.channels, columns);
      }
    }
  }
}

template <typename T>
void scatter_columns(const DeformConvShape& shape, const DeformConvInput<T>& in, std::int64_t first_row,
                     std::int64_t row_count, std::int64_t first_tap, std::int64_t tap_count, const T* columns,
                     const DeformConvGradients<T>& gradients) {
  const RowKernels<T>& kernels = row_kernels<T>();
  const std::int64_t plane = shape.height * shape.width;
  for (std::int64_t row = first_row; row < first_row + row_count; ++row) {
    const std::int64_t image = row / plane * plane * shape.channels;
    for (std::int64_t tap = first_tap; tap < first_tap + tap_count; ++tap, columns += shape.channels) {
      const Tap<T> at = tap_of(shape, in, row, tap);
      const Sample<T>& sample = at.sample;
      T value[4] = {};  // <gradient, corner>; zero outside
      if (sample.inside && (gradients.offset || gradients.mask)) {
        const T* rows[4];
        for (int c = 0; c < 4; ++c) rows[c] = in.input + image + sample.pixels[c] * shape.channels;
        kernels.dot(columns, rows, shape.channels, value);
        for (int c = 0; c < 4; ++c) value[c] = sample.valid[c] ? value[c] : T(0);
      }
      write_gradients(at, value, gradients);
      if (gradients.input && sample.inside) {
        T weights[4];
        corner_weights(sample, at.scale, weights);
        T* rows[4];
        for (int c = 0; c < 4; ++c) rows[c] = gradients.input + image + sample.pixels[c] * shape.channels;
        kernels.scatter(columns, weights, shape.channels, rows);
      }
    }
  }
}

void locate_samples(const DeformConvShape& shape, const DeformConvInput<float>& in, std::int64_t first_row,
                    std::int64_t row_count, std::int64_t tap, DeformSample* samples) {
  const std::int64_t plane = shape.height * shape.width;
  for (std::int64_t row = first_row; row < first_row + row_count; ++row, ++samples) {
    const Tap<float> at = tap_of(shape, in, row, tap);
    *samples = {};
    if (at.sample.inside) corner_weights(at.sample, at.scale, samples->weights);
    for (int c = 0; c < 4; ++c) {
      samples->pixels[c] = static_cast<std::int32_t>(row / plane * plane + at.sample.pixels[c]);
    }
  }
}

void write_sample_gradients(const DeformConvShape& shape, const DeformConvInput<float>& in, std::int64_t first_row,
                            std::int64_t row_count, std::int64_t tap, const float* dots,
                            const DeformConvGradients<float>& gradients) {
  for (std::int64_t row = first_row; row < first_row + row_count; ++row, dots += 4) {
    const Tap<float> at = tap_of(shape, in, row, tap);
    float value[4];
    for (int c = 0; c < 4; ++c) value[c] = at.sample.valid[c] ? dots[c] : 0.0f;
    write_gradients(at, value, gradients);
  }
}

void scatter_samples(const DeformSample* samples, std::int64_t row_count, const float* columns, std::int64_t channels,
                     float* sums) {
  const RowKernels<float>& kernels = row_kernels<float>();
  for (std::int64_t r = 0; r < row_count; ++r, columns += channels) {
    float* rows[4];
    for (int c = 0; c < 4; ++c) rows[c] = sums + samples[r].pixels[c] * channels;
    kernels.scatter(columns, samples[r].weights, channels, rows);
  }
}

template void gather_columns<float, float>(const DeformConvShape&, const DeformConvInput<float>&, std::int64_t,
                                           std::int64_t, std::int64_t, std::int64_t, float*);
template void gather_columns<float, Bfloat16>(const DeformConvShape&, const DeformConvInput<float>&, std::int64_t,
                                              std::int64_t, std::int64_t, std::int64_t, Bfloat16*);
template void gather_columns<double, double>(const DeformConvShape&, const DeformConvInput<double>&, std::int64_t,
                                             std::int64_t, std::int64_t, std::int64_t, double*);
template void scatter_columns<float>(const DeformConvShape&, const DeformConvInput<float>&, std::int64_t, std::int64_t,
                                     std::int64_t, std::int64_t, const float*, const DeformConvGradients<float>&);
template void scatter_columns<double>(const DeformConvShape&, const DeformConvInput<double>&, std::int64_t,
                                      std::int64_t, std::int64_t, std::int64_t, const double*,
                                      const DeformConvGradients<double>&);

}  // namespace filo::kernels
