// The two halves of a deformable convolution that are not a matrix product: sampling the input into columns, and taking
// a gradient of the columns back to offsets, mask and input. CPU; raw pointers; the CUDA twin is deform_conv_cuda.hpp.
//
// A row is one output position of one image, r = (b * height + y) * width + x. A tap t = ky * kernel_width + kx of row
// r samples the input at (y + ky - kernel_height/2 + dy, x + kx - kernel_width/2 + dx), bilinearly, zero outside (Dai
// et al. 2017, eq. 2-4; with the mask: Zhu et al. 2019, eq. 1), exactly as torchvision.ops.deform_conv2d with stride 1
// and one offset group.
#pragma once

#include <cstdint>

#include "model/kernels/row_kernels.hpp"
#include "model/kernels/sample_rows.hpp"

namespace filo::kernels {

struct DeformConvShape {
  std::int64_t batch = 0, height = 0, width = 0, channels = 0;
  std::int64_t kernel_height = 0, kernel_width = 0;

  std::int64_t taps() const { return kernel_height * kernel_width; }
  std::int64_t rows() const { return batch * height * width; }
};

template <typename T>
struct DeformConvInput {
  const T* input = nullptr;   // [batch, height, width, channels]
  const T* offset = nullptr;  // [batch, 2 * taps, height, width], (dy, dx) per tap
  const T* mask = nullptr;    // [batch, taps, height, width], or null: all one
};

template <typename T>
struct DeformConvGradients {
  T* offset =
      nullptr;  // as DeformConvInput::offset, or null: not wanted; every element of the given rows and taps is written
  T* mask = nullptr;   // as DeformConvInput::mask, or null
  T* input = nullptr;  // as DeformConvInput::input, or null; added to
};

// Writes columns[(r - first_row) * tap_count + (t - first_tap)][channels] for the given rows and taps; Column is T or
// Bfloat16. Thread-safe on disjoint rows.
template <typename T, typename Column>
void gather_columns(const DeformConvShape& shape, const DeformConvInput<T>& in, std::int64_t first_row,
                    std::int64_t row_count, std::int64_t first_tap, std::int64_t tap_count, Column* columns);

// The reverse: `columns` holds the loss's gradient with respect to what gather_columns wrote. Thread-safe on disjoint
// rows, and where gradients.input is wanted, on rows of different images only.
template <typename T>
void scatter_columns(const DeformConvShape& shape, const DeformConvInput<T>& in, std::int64_t first_row,
                     std::int64_t row_count, std::int64_t first_tap, std::int64_t tap_count, const T* columns,
                     const DeformConvGradients<T>& gradients);

// Where one tap of the given rows samples: samples[row_count], pixels of the batch. Thread-safe on disjoint rows or
// taps.
void locate_samples(const DeformConvShape& shape, const DeformConvInput<float>& in, std::int64_t first_row,
                    std::int64_t row_count, std::int64_t tap, DeformSample* samples);

// Writes the gradients of offsets and mask of one tap of the given rows; the input's is left alone. dots[row_count][4]:
// the products of the column's gradient with the sample's four corners, of any value where a corner lies outside.
void write_sample_gradients(const DeformConvShape& shape, const DeformConvInput<float>& in, std::int64_t first_row,
                            std::int64_t row_count, std::int64_t tap, const float* dots,
                            const DeformConvGradients<float>& gradients);

// sums[pixel c of sample r][i] += its weight * columns[r][i], i < channels, corner after corner.
void scatter_samples(const DeformSample* samples, std::int64_t row_count, const float* columns, std::int64_t channels,
                     float* sums);

}  // namespace filo::kernels
