// Compiled once per instruction set, as row_kernels_isa.cpp, which says what to keep to.
#include "model/kernels/sample_rows.hpp"
#include "model/kernels/vector_bfloat16.hpp"

namespace filo::kernels::FILO_ISA {
namespace {

constexpr std::int64_t lanes = Vector<float>::lanes;
static_assert(lanes == sample_lanes);

template <typename T>
struct Corners {
  const T* rows[4];
  float weights[4];
};

template <typename T>
inline Corners<T> corners_of(const DeformSample& sample, const T* block, std::int64_t channels) {
  Corners<T> at{};
  for (int c = 0; c < 4; ++c) {
    at.rows[c] = block + sample.pixels[c] * channels;
    at.weights[c] = sample.weights[c];
  }
  return at;
}

template <typename T>
inline Floats blend(const Corners<T>& at, std::int64_t i) {
  return load_floats(at.rows[0] + i) * at.weights[0] + load_floats(at.rows[1] + i) * at.weights[1] +
         load_floats(at.rows[2] + i) * at.weights[2] + load_floats(at.rows[3] + i) * at.weights[3];
}

template <typename T>
void columns(const DeformSample* samples, std::int64_t rows, const T* block, std::int64_t channels, std::int64_t stride,
             T* out) {
  for (std::int64_t r = 0; r < rows; ++r, out += stride) {
    const Corners<T> at = corners_of(samples[r], block, channels);
    for (std::int64_t i = 0; i < channels; i += lanes) store_floats(out + i, blend(at, i));
  }
}

void right_side(const DeformSample* samples, std::int64_t rows, std::int64_t padded_rows, const float* block,
                std::int64_t channels, float* out) {
  columns(samples, rows, block, channels, channels, out);
  __builtin_memset(out + rows * channels, 0, sizeof(float) * static_cast<std::size_t>((padded_rows - rows) * channels));
}

void right_side(const DeformSample* samples, std::int64_t rows, std::int64_t padded_rows, const Bfloat16* block,
                std::int64_t channels, Bfloat16* out) {
  const DeformSample nothing = {};
  for (std::int64_t r = 0; r < padded_rows; r += 2, out += 2 * channels) {
    const auto even = corners_of(r < rows ? samples[r] : nothing, block, channels);
    const auto odd = corners_of(r + 1 < rows ? samples[r + 1] : nothing, block, channels);
    for (std::int64_t i = 0; i < channels; i += lanes) store_pairs(out + 2 * i, blend(even, i), blend(odd, i));
  }
}

template <typename T>
void packed_columns(const DeformSample* samples, std::int64_t rows, std::int64_t padded_rows, const T* block,
                    std::int64_t channels, T* out) {
  right_side(samples, rows, padded_rows, block, channels, out);
}

template <typename T>
void dots(const float* gradients, const DeformSample* samples, std::int64_t rows, const T* block, std::int64_t channels,
          float* out) {
  for (std::int64_t r = 0; r < rows; ++r, gradients += channels, out += 4) {
    const Corners<T> at = corners_of(samples[r], block, channels);
    Floats sums[4] = {};
    for (std::int64_t i = 0; i < channels; i += lanes) {
      const Floats gradient = load<float>(gradients + i);
      for (int c = 0; c < 4; ++c) sums[c] += gradient * load_floats(at.rows[c] + i);
    }
    for (int c = 0; c < 4; ++c) out[c] = sum_of(sums[c]);
  }
}

}  // namespace

extern const SampleRows<float> float_sample_rows;
extern const SampleRows<Bfloat16> bfloat16_sample_rows;
const SampleRows<float> float_sample_rows = {columns<float>, packed_columns<float>, dots<float>};
const SampleRows<Bfloat16> bfloat16_sample_rows = {columns<Bfloat16>, packed_columns<Bfloat16>, dots<Bfloat16>};

}  // namespace filo::kernels::FILO_ISA
