// Inner loops of the deformable convolution that multiplies while it samples (model/layers/deform_fused.hpp), compiled
// for several instruction sets as row_kernels.hpp has it. Raw pointers, no torch. Thread-safe; the same bits on each
// call.
//
// A block holds some of the channels of all pixels, [pixels, channels], channels a multiple of sample_lanes.
#pragma once

#include <cstdint>

#include "model/kernels/row_kernels.hpp"

namespace filo::kernels {

constexpr std::int64_t sample_lanes = 16;

// Where one tap of one output position samples. A corner outside has the weight zero and any pixel of its image.
struct DeformSample {
  std::int32_t pixels[4];  // of the batch
  float weights[4];        // times the mask
};

// T: float, or Bfloat16, which is computed with in float32 and rounded once.
template <typename T>
struct SampleRows {
  // out[r * stride + i], r < rows, i < channels: the samples, one a row.
  void (*columns)(const DeformSample* samples, std::int64_t rows, const T* block, std::int64_t channels,
                  std::int64_t stride, T* out);

  // The same as the right side of a product, and zeros up to padded_rows, an even number: float [padded_rows,
  // channels], Bfloat16 in pairs of rows [padded_rows / 2, channels, 2].
  void (*right_side)(const DeformSample* samples, std::int64_t rows, std::int64_t padded_rows, const T* block,
                     std::int64_t channels, T* out);

  // dots[4 r + c] = sum over i of gradients[r * channels + i] * block[sample r's pixel c][i]
  void (*dots)(const float* gradients, const DeformSample* samples, std::int64_t rows, const T* block,
               std::int64_t channels, float* dots);
};

// T: float, Bfloat16.
template <typename T>
const SampleRows<T>& sample_rows();

}  // namespace filo::kernels
