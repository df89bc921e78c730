#include "model/layers/deform_fused.hpp"

#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <string_view>
#include <type_traits>
#include <vector>

#include "model/kernels/sample_rows.hpp"

namespace filo {
namespace {

using kernels::DeformConvGradients;
using kernels::DeformConvInput;
using kernels::DeformConvShape;
using kernels::DeformSample;

constexpr std::int64_t most_channels = 128;     // of a block: 1369 patches of it in bfloat16 stay in a core's L2
constexpr std::int64_t most_forward_rows = 64;  // of a tile: 7 taps of 128 channels in bfloat16 are 112 KB
constexpr std::int64_t most_backward_rows = 128;
constexpr std::int64_t taps_at_once = 7;
constexpr std::int64_t tiles_at_once = 16;  // whose sums stay in the last-level cache
constexpr std::int64_t side = 16;           // of the squares in which weights are transposed
constexpr std::int64_t channel_multiple = 2 * side, output_multiple = side;

std::int64_t parts(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }
std::int64_t rounded_up(std::int64_t count, std::int64_t multiple) { return parts(count, multiple) * multiple; }

// How a right side lies in memory: rows in groups of this many, interleaved.
template <typename T>
constexpr std::int64_t interleaved = std::is_same_v<T, c10::BFloat16> ? 2 : 1;

template <typename T>
using KernelType = std::conditional_t<std::is_same_v<T, c10::BFloat16>, kernels::Bfloat16, float>;

// sums[m, n] = left[m, k] right[k, n], or added to them.
template <typename T>
void multiply(std::int64_t m, std::int64_t n, std::int64_t k, const T* left, const T* right, bool add, float* sums) {
  at::native::cpublas::brgemm(m, n, k, k, n, n, add, left, right, sums, interleaved<T> == 2);
}

template <typename T>
void release_products() {
  at::native::cpublas::brgemm_release(interleaved<T> == 2);
}

template <typename T>
bool multiplies() {
  constexpr std::int64_t n = 32;
  const std::vector<T> ones(n * n, T(1.0f));
  std::vector<float> sums(n * n);
  try {
    multiply(n, n, n, ones.data(), ones.data(), false, sums.data());
    release_products<T>();
  } catch (const c10::Error&) {
    return false;
  }
  return std::all_of(sums.begin(), sums.end(), [](float sum) { return sum == static_cast<float>(n); });
}

// A backward pass's operands and results; those that are not wanted are undefined.
struct Backward {
  std::int64_t tile_rows = 0;
  torch::Tensor gradient;    // [tiles * tile_rows, outputs], zero beyond the rows
  torch::Tensor transposed;  // [tiles, outputs, tile_rows]
  torch::Tensor packed;      // [blocks, taps, right side of outputs x channels]
  torch::Tensor of_weight;   // [blocks, taps, outputs, channels]
  torch::Tensor dots;        // [blocks, taps, rows, 4]
  torch::Tensor of_input;    // [blocks, rows, channels]
};

template <typename T>
class FusedDeformConv {
  using K = KernelType<T>;
  static constexpr std::int64_t group = interleaved<T>;

 public:
  explicit FusedDeformConv(const FusedDeformCall& call)
      : shape_(call.shape),
        in_(call.in),
        rows_(shape_.rows()),
        taps_(shape_.taps()),
        channels_(std::min(most_channels, rounded_up(shape_.channels, channel_multiple))),
        blocks_(parts(shape_.channels, channels_)),
        outputs_(call.weight.size(0)),
        padded_outputs_(rounded_up(outputs_, output_multiple)),
        weight_(call.weight.contiguous()),
        options_(call.input.options()),
        typed_(options_.dtype(c10::CppTypeToScalarType<T>::value)),
        blocked_(at::constant_pad_nd(call.input.view({rows_, shape_.channels}).to(typed_),
                                     {0, blocks_ * channels_ - shape_.channels})
                     .view({rows_, blocks_, channels_})
                     .permute({1, 0, 2})
                     .contiguous()),
        samples_(static_cast<std::size_t>(taps_ * rows_)) {
    at::parallel_for(0, taps_, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t tap = begin; tap < end; ++tap)
        kernels::locate_samples(shape_, in_, 0, rows_, tap, samples_.data() + tap * rows_);
    });
  }

  // Threads share the rows: each adds up its own.
  torch::Tensor forward() const {
    const torch::Tensor packed = weights_by_channel();
    const torch::Tensor sums = torch::empty({rows_, padded_outputs_}, options_);
    const std::int64_t threads = at::get_num_threads();
    const std::int64_t tile_rows = parts(rows_, std::min(rows_, threads * parts(rows_, threads * most_forward_rows)));
    at::parallel_for(0, parts(rows_, tile_rows), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t first = begin; first < end; first += tiles_at_once) {
        const std::int64_t last = std::min(end, first + tiles_at_once);
        add_rows(first * tile_rows, std::min(rows_, last * tile_rows), tile_rows, packed, sums);
      }
      release_products<T>();
    });
    return outputs_ == padded_outputs_ ? sums : sums.narrow(1, 0, outputs_).contiguous();
  }

  FusedDeformGradients backward(const torch::Tensor& gradient, bool input_wanted, bool weight_wanted,
                                const DeformConvGradients<float>& out) const {
    Backward pass;
    pass.tile_rows = std::min(most_backward_rows, rounded_up(rows_, channel_multiple));
    const std::int64_t tiles = parts(rows_, pass.tile_rows);
    pass.gradient =
        at::constant_pad_nd(gradient.to(typed_), {0, padded_outputs_ - outputs_, 0, tiles * pass.tile_rows - rows_});
    if (weight_wanted) {
      pass.transposed = pass.gradient.view({tiles, pass.tile_rows, padded_outputs_}).transpose(1, 2).contiguous();
      pass.of_weight = torch::empty({blocks_, taps_, padded_outputs_, channels_}, options_);
    }
    const bool dots_wanted = out.offset != nullptr || out.mask != nullptr;
    if (dots_wanted || input_wanted) pass.packed = weights_by_output();
    if (dots_wanted) pass.dots = torch::empty({blocks_, taps_, rows_, 4}, options_);
    if (input_wanted) pass.of_input = torch::zeros({blocks_, rows_, channels_}, options_);
    // Threads share pairs of block and tap; the taps of a block add to the same pixels where the input's is wanted.
    const std::int64_t taps_together = input_wanted ? taps_ : 1;
    at::parallel_for(0, blocks_ * taps_ / taps_together, 1, [&](std::int64_t begin, std::int64_t end) {
      const torch::Tensor tile = torch::empty({pass.tile_rows, channels_}, typed_);
      const torch::Tensor tile_gradient = torch::empty({pass.tile_rows, channels_}, options_);
      for (std::int64_t i = begin * taps_together; i < end * taps_together; ++i)
        take_gradients(pass, i / taps_, i % taps_, tile.data_ptr<T>(), tile_gradient.data_ptr<float>());
      release_products<T>();
    });
    if (dots_wanted) write_gradients(pass.dots.sum(0), out);
    FusedDeformGradients found;
    if (weight_wanted) found.weight = weight_of(pass.of_weight);
    if (input_wanted) {
      found.input = pass.of_input.permute({1, 0, 2})
                        .reshape({rows_, blocks_ * channels_})
                        .narrow(1, 0, shape_.channels)
                        .contiguous()
                        .view({shape_.batch, shape_.height, shape_.width, shape_.channels});
    }
    return found;
  }

 private:
  static const K* kernel_pointer(const T* elements) { return reinterpret_cast<const K*>(elements); }
  static K* kernel_pointer(T* elements) { return reinterpret_cast<K*>(elements); }
  const K* block(std::int64_t b) const { return kernel_pointer(blocked_.data_ptr<T>() + b * rows_ * channels_); }
  const DeformSample* samples(std::int64_t tap, std::int64_t row) const { return samples_.data() + tap * rows_ + row; }

  // Rows [first, end) in tiles, block after block, so that a tile's weights are read once for all of them.
  void add_rows(std::int64_t first, std::int64_t end, std::int64_t tile_rows, const torch::Tensor& packed,
                const torch::Tensor& sums) const {
    const torch::Tensor left = torch::empty({tile_rows * std::min(taps_at_once, taps_) * channels_}, typed_);
    T* tile = left.data_ptr<T>();
    const auto& kernels = kernels::sample_rows<K>();
    for (std::int64_t b = 0; b < blocks_; ++b) {
      for (std::int64_t tap = 0; tap < taps_; tap += taps_at_once) {
        const std::int64_t taps = std::min(taps_at_once, taps_ - tap), width = taps * channels_;
        const T* right = packed.data_ptr<T>() + (b * taps_ + tap) * channels_ * padded_outputs_;
        for (std::int64_t row = first; row < end; row += tile_rows) {
          const std::int64_t rows = std::min(tile_rows, end - row);
          for (std::int64_t t = 0; t < taps; ++t) {
            kernels.columns(samples(tap + t, row), rows, block(b), channels_, width,
                            kernel_pointer(tile + t * channels_));
          }
          multiply<T>(rows, padded_outputs_, width, tile, right, b + tap > 0,
                      sums.data_ptr<float>() + row * padded_outputs_);
        }
      }
    }
  }

  void take_gradients(const Backward& pass, std::int64_t b, std::int64_t tap, T* tile, float* tile_gradient) const {
    const auto& kernels = kernels::sample_rows<K>();
    const std::int64_t at = b * taps_ + tap, size = padded_outputs_ * channels_;
    for (std::int64_t row = 0; row < rows_; row += pass.tile_rows) {
      const std::int64_t rows = std::min(pass.tile_rows, rows_ - row);
      const DeformSample* here = samples(tap, row);
      if (pass.of_weight.defined()) {
        kernels.right_side(here, rows, pass.tile_rows, block(b), channels_, kernel_pointer(tile));
        multiply<T>(padded_outputs_, channels_, pass.tile_rows, pass.transposed.data_ptr<T>() + row * padded_outputs_,
                    tile, row > 0, pass.of_weight.data_ptr<float>() + at * size);
      }
      if (!pass.packed.defined()) continue;
      multiply<T>(pass.tile_rows, channels_, padded_outputs_, pass.gradient.data_ptr<T>() + row * padded_outputs_,
                  pass.packed.data_ptr<T>() + at * size, false, tile_gradient);
      if (pass.dots.defined()) {
        kernels.dots(tile_gradient, here, rows, block(b), channels_,
                     pass.dots.data_ptr<float>() + (at * rows_ + row) * 4);
      }
      if (pass.of_input.defined()) {
        kernels::scatter_samples(here, rows, tile_gradient, channels_,
                                 pass.of_input.data_ptr<float>() + b * rows_ * channels_);
      }
    }
  }

  void write_gradients(const torch::Tensor& dots, const DeformConvGradients<float>& out) const {
    at::parallel_for(0, taps_, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t tap = begin; tap < end; ++tap) {
        kernels::write_sample_gradients(shape_, in_, 0, rows_, tap, dots.data_ptr<float>() + tap * rows_ * 4, out);
      }
    });
  }

  // The forward pass's right sides [blocks, taps][channels / group, outputs, group].
  torch::Tensor weights_by_channel() const {
    return packed_weights([this](T* to, const float* from, std::int64_t o, std::int64_t i) {
      to += i / group * group * padded_outputs_ + o * group;
      for (std::int64_t k = 0; k < side; k += group, to += group * padded_outputs_) {
        for (std::int64_t n = 0; n < side; ++n)
          for (std::int64_t g = 0; g < group; ++g) to[n * group + g] = static_cast<T>(from[n * taps_ * side + k + g]);
      }
    });
  }

  // The backward pass's right sides [blocks, taps][outputs / group, channels, group].
  torch::Tensor weights_by_output() const {
    return packed_weights([this](T* to, const float* from, std::int64_t o, std::int64_t i) {
      to += o / group * group * channels_ + i * group;
      for (std::int64_t n = 0; n < side; n += group, to += group * channels_) {
        for (std::int64_t k = 0; k < side; ++k)
          for (std::int64_t g = 0; g < group; ++g) to[k * group + g] = static_cast<T>(from[(n + g) * taps_ * side + k]);
      }
    });
  }

  // place(right side of a block and tap, square, first output, first channel of the block), a square after the other;
  // both of its sides fill lines of the cache. The square's element of output n and channel k: square[n * taps_ * side
  // + k].
  template <typename Place>
  torch::Tensor packed_weights(const Place& place) const {
    const torch::Tensor packed = torch::empty({blocks_ * taps_ * channels_ * padded_outputs_}, typed_);
    const float* from = weight_.data_ptr<float>();
    T* to = packed.data_ptr<T>();
    for_each_square([&](std::int64_t b, std::int64_t first_o, std::int64_t outputs, std::int64_t first_i,
                        std::int64_t channels, std::vector<float>& squares) {
      if (outputs < side || channels < side) std::fill(squares.begin(), squares.end(), 0.0f);
      for (std::int64_t n = 0; n < outputs; ++n) {
        const float* row = from + ((first_o + n) * shape_.channels + b * channels_ + first_i) * taps_;
        for (std::int64_t k = 0; k < channels; ++k, row += taps_)
          for (std::int64_t tap = 0; tap < taps_; ++tap) squares[(n * taps_ + tap) * side + k] = row[tap];
      }
      for (std::int64_t tap = 0; tap < taps_; ++tap) {
        place(to + (b * taps_ + tap) * channels_ * padded_outputs_, squares.data() + tap * side, first_o, first_i);
      }
    });
    return packed;
  }

  torch::Tensor weight_of(const torch::Tensor& sums) const {
    torch::Tensor weight = torch::empty(weight_.sizes(), options_);
    const float* from = sums.data_ptr<float>();
    float* to = weight.data_ptr<float>();
    for_each_square([&](std::int64_t b, std::int64_t first_o, std::int64_t outputs, std::int64_t first_i,
                        std::int64_t channels, std::vector<float>& squares) {
      for (std::int64_t tap = 0; tap < taps_; ++tap) {
        const float* square = from + ((b * taps_ + tap) * padded_outputs_ + first_o) * channels_ + first_i;
        for (std::int64_t n = 0; n < outputs; ++n)
          std::copy_n(square + n * channels_, side, squares.data() + (n * taps_ + tap) * side);
      }
      for (std::int64_t n = 0; n < outputs; ++n) {
        float* row = to + ((first_o + n) * shape_.channels + b * channels_ + first_i) * taps_;
        for (std::int64_t k = 0; k < channels; ++k, row += taps_)
          for (std::int64_t tap = 0; tap < taps_; ++tap) row[tap] = squares[(n * taps_ + tap) * side + k];
      }
    });
    return weight;
  }

  // work(block, first output, how many, first channel of the block, how many, memory of a square for each tap), both
  // numbers at most `side`, on all threads.
  template <typename Work>
  void for_each_square(const Work& work) const {
    const std::int64_t across = channels_ / side, down = padded_outputs_ / side;
    at::parallel_for(0, blocks_ * across * down, 1, [&](std::int64_t begin, std::int64_t end) {
      std::vector<float> squares(static_cast<std::size_t>(taps_ * side * side));
      for (std::int64_t at = begin; at < end; ++at) {
        const std::int64_t b = at / down / across, i = at / down % across * side, o = at % down * side;
        work(b, o, std::min(side, outputs_ - o), i,
             std::clamp<std::int64_t>(shape_.channels - b * channels_ - i, 0, side), squares);
      }
    });
  }

  DeformConvShape shape_;
  DeformConvInput<float> in_;
  std::int64_t rows_, taps_, channels_, blocks_, outputs_, padded_outputs_;
  torch::Tensor weight_;
  torch::TensorOptions options_, typed_;
  torch::Tensor blocked_;  // [blocks, rows, channels of a block], zero beyond the input's
  std::vector<DeformSample> samples_;
};

template <typename Work>
auto with_type(Precision precision, const Work& work) {
  return precision == Precision::bf16 ? work(c10::BFloat16{}) : work(float{});
}

}  // namespace

bool fused_deform_available(Precision precision) {
  static const bool avx512 = std::string_view(kernels::instruction_set()) == "avx512";
  static const bool fp32 = avx512 && multiplies<float>(), bf16 = avx512 && multiplies<c10::BFloat16>();
  return precision == Precision::bf16 ? bf16 : fp32;
}

torch::Tensor fused_deform_forward(const FusedDeformCall& call) {
  return with_type(call.precision, [&](auto zero) { return FusedDeformConv<decltype(zero)>(call).forward(); });
}

FusedDeformGradients fused_deform_backward(const FusedDeformCall& call, const torch::Tensor& gradient,
                                           bool input_wanted, bool weight_wanted,
                                           const DeformConvGradients<float>& out) {
  return with_type(call.precision, [&](auto zero) {
    return FusedDeformConv<decltype(zero)>(call).backward(gradient, input_wanted, weight_wanted, out);
  });
}

}  // namespace filo
