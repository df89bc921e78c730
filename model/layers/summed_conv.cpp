#include "model/layers/summed_conv.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <sstream>

#include "base/error.hpp"
#include "model/kernels/tile_transform.hpp"

namespace filo {
namespace {

constexpr std::int64_t largest_kernel = kernels::largest_tile_side - 1;

void check(const torch::Tensor& input, const std::vector<torch::Tensor>& weights,
           const std::vector<torch::Tensor>& biases) {
  const auto fail = [](const std::string& name, const torch::Tensor& found, const std::string& expected) {
    std::ostringstream text;
    text << "found " << found.sizes() << ' ' << found.scalar_type() << ", expected " << expected;
    throw Error("summed_conv2d: " + name, text.str());
  };
  const auto type = input.scalar_type();
  if (input.dim() != 4 || input.numel() == 0 || (type != torch::kFloat32 && type != torch::kFloat64)) {
    fail("input", input, "[B, H, W, C_in] float32 or float64, not empty");
  }
  if (weights.empty()) throw Error("summed_conv2d: weights", "found none, expected at least one");
  if (!biases.empty() && biases.size() != weights.size()) {
    throw Error("summed_conv2d: biases",
                "found " + std::to_string(biases.size()) + ", expected none or " + std::to_string(weights.size()));
  }
  const std::string suffix = std::string(" ") + torch::toString(type);
  const std::int64_t outputs = weights[0].dim() == 4 ? weights[0].size(0) : 0;
  for (std::size_t j = 0; j < weights.size(); ++j) {
    const torch::Tensor& weight = weights[j];
    if (weight.dim() != 4 || weight.size(0) != outputs || outputs == 0 || weight.size(1) != input.size(3) ||
        weight.size(2) % 2 == 0 || weight.size(3) % 2 == 0 || weight.size(2) > largest_kernel ||
        weight.size(3) > largest_kernel || weight.scalar_type() != type) {
      fail("weights[" + std::to_string(j) + "]", weight,
           "[" + (outputs ? std::to_string(outputs) : std::string("C_out")) + ", " + std::to_string(input.size(3)) +
               ", odd, odd]" + suffix + ", kernels up to 31 x 31");
    }
    if (!biases.empty() && (biases[j].dim() != 1 || biases[j].size(0) != outputs || biases[j].scalar_type() != type)) {
      fail("biases[" + std::to_string(j) + "]", biases[j], "[" + std::to_string(outputs) + "]" + suffix);
    }
  }
}

using kernels::Product;
using kernels::SpectrumView;
using kernels::ThirdPlane;
using kernels::TilePlan;
using kernels::TileView;

// Weights are transformed, multiplied and forgotten in blocks of this many bytes of spectrum.
constexpr std::int64_t block_bytes = std::int64_t{160} << 20;

// Memory that blocks use one after the other: fresh pages cost more than what is written into them.
class Scratch {
 public:
  explicit Scratch(const torch::TensorOptions& options) : options_(options) {}

  // [frequencies, rows, channels], uninitialised. Frequencies lie an odd number of cache lines apart: at multiples of 4
  // KiB all frequencies of a channel would fall into the same few cache sets.
  torch::Tensor take(std::int64_t frequencies, std::int64_t rows, std::int64_t channels) {
    const std::int64_t line = 64 / static_cast<std::int64_t>(options_.dtype().itemsize());
    const std::int64_t stride = (rows * channels + line - 1) / line * line + 3 * line;
    const std::int64_t count = frequencies * stride;
    if (!buffer_.defined() || buffer_.numel() < count) buffer_ = torch::empty({count}, options_);
    return buffer_.as_strided({frequencies, rows, channels}, {stride, channels, 1});
  }

 private:
  torch::TensorOptions options_;
  torch::Tensor buffer_;
};

// result[f] = a[f] b[f] (+ result[f]): one matrix product per frequency, threads share out the frequencies.
void multiply(const torch::Tensor& a, const torch::Tensor& b, const torch::Tensor& result, bool add = false) {
  at::parallel_for(0, result.size(0), 1, [&](std::int64_t begin, std::int64_t end) {
    const torch::NoGradGuard no_grad;
    for (std::int64_t f = begin; f < end; ++f) {
      torch::Tensor product = result.select(0, f);
      if (add) {
        product.addmm_(a.select(0, f), b.select(0, f));
      } else {
        at::mm_out(product, a.select(0, f), b.select(0, f));
      }
    }
  });
}

// The sum of zero-padded kernels with a common centre, output channel by output channel.
template <typename T>
class KernelSum {
 public:
  // weights: contiguous, [C_out, C_in, kh_j, kw_j]; an undefined one is not there. Keeps them.
  explicit KernelSum(std::vector<torch::Tensor> weights, std::int64_t height, std::int64_t width, std::int64_t inputs)
      : weights_(std::move(weights)), height_(height), width_(width), inputs_(inputs) {}

  std::int64_t numel() const { return height_ * width_ * inputs_; }

  // taps [kh, kw, C_in] = the sum's taps of one output channel.
  void sum(std::int64_t output, T* taps) const {
    std::fill(taps, taps + numel(), T(0));
    each_part(output, [&](T* weight, std::int64_t tap, std::int64_t count, std::int64_t place) {
      T* to = taps + place * inputs_;
      for (std::int64_t i = 0; i < inputs_; ++i) to[i] += weight[i * count + tap];
    });
  }

  // The reverse: each weight receives its part of the taps.
  void spread(std::int64_t output, const T* taps) const {
    each_part(output, [&](T* weight, std::int64_t tap, std::int64_t count, std::int64_t place) {
      const T* from = taps + place * inputs_;
      for (std::int64_t i = 0; i < inputs_; ++i) weight[i * count + tap] = from[i];
    });
  }

 private:
  template <typename Work>
  void each_part(std::int64_t output, const Work& work) const {
    for (const torch::Tensor& weight : weights_) {
      if (!weight.defined()) continue;
      const std::int64_t height = weight.size(2), width = weight.size(3), count = height * width;
      const std::int64_t top = (height_ - height) / 2, left = (width_ - width) / 2;
      T* data = weight.data_ptr<T>() + output * inputs_ * count;
      for (std::int64_t tap = 0; tap < count; ++tap) {
        work(data, tap, count, (top + tap / width) * width_ + left + tap % width);
      }
    }
  }

  std::vector<torch::Tensor> weights_;
  std::int64_t height_, width_, inputs_;
};

// One axis: the image is cut into tiles that each give `outputs` outputs and, transformed, have `side` elements.
struct Axis {
  Axis(std::int64_t length_, std::int64_t kernel_) : length(length_), kernel(kernel_) {
    // 19 is the fastest side for 7 x 7 kernels (docs/explanations/performance.md); larger kernels need a larger one.
    const std::int64_t largest = (kernel <= 7 ? 19 : kernels::largest_tile_side) - kernel + 1;
    tiles = (length + largest - 1) / largest;
    outputs = (length + tiles - 1) / tiles;
    side = outputs + kernel - 1;
  }

  std::int64_t length, kernel, tiles, outputs, side;
};

// Tiled convolution in the frequency domain (overlap-save): a tile's spectrum times the kernel's, summed over channels,
// is one small matrix product per frequency; a complex product is three real ones. All six kernels are one sum of
// zero-padded kernels, transformed once for the whole batch.
template <typename T>
class SpectralConv {
 public:
  SpectralConv(const torch::Tensor& input, std::int64_t outputs, std::int64_t kernel_height, std::int64_t kernel_width)
      : y_(input.size(1), kernel_height),
        x_(input.size(2), kernel_width),
        batch_(input.size(0)),
        inputs_(input.size(3)),
        outputs_(outputs),
        options_(input.options()),
        plan_(y_.side, x_.side) {}

  // input [B, H, W, C_in] -> [B, H, W, C_out]
  torch::Tensor forward(const torch::Tensor& input, const KernelSum<T>& kernel) const {
    Scratch inputs(options_), kernels(options_), products(options_);
    const torch::Tensor input_spectrum = transformed_image(input, Margin::with, ThirdPlane::sum, 0, inputs_, inputs);
    torch::Tensor output = torch::empty({batch_, y_.length, x_.length, outputs_}, options_);
    for_each_block([&](std::int64_t first, std::int64_t count) {
      const torch::Tensor kernel_spectrum = transformed_kernel(kernel, first, count, kernels);
      const torch::Tensor product = take(products, tiles(), count);
      multiply(input_spectrum, kernel_spectrum.transpose(1, 2), product);
      inverse_outputs(product, first, count, output);
    });
    return output;
  }

  // gradient [B, H, W, C_out]; writes the weights of `kernel_gradient`.
  void backward_kernel(const torch::Tensor& input, const torch::Tensor& gradient,
                       const KernelSum<T>& kernel_gradient) const {
    Scratch inputs(options_), gradients(options_), products(options_);
    const torch::Tensor input_spectrum = transformed_image(input, Margin::with, ThirdPlane::sum, 0, inputs_, inputs);
    for_each_block([&](std::int64_t first, std::int64_t count) {
      const torch::Tensor spectrum =
          transformed_image(gradient, Margin::without, ThirdPlane::difference, first, count, gradients);
      const torch::Tensor product = take(products, count, inputs_);
      multiply(spectrum.transpose(1, 2), input_spectrum, product);
      inverse_kernel(product, first, count, kernel_gradient);
    });
  }

  // gradient [B, H, W, C_out] -> [B, H, W, C_in]
  torch::Tensor backward_input(const KernelSum<T>& kernel, const torch::Tensor& gradient) const {
    Scratch sums(options_), gradients(options_), kernels(options_);
    const torch::Tensor sum = take(sums, tiles(), inputs_);
    for_each_block([&](std::int64_t first, std::int64_t count) {
      const torch::Tensor spectrum =
          transformed_image(gradient, Margin::without, ThirdPlane::difference, first, count, gradients);
      multiply(spectrum, transformed_kernel(kernel, first, count, kernels), sum, /*add=*/first > 0);
    });
    torch::Tensor result = torch::zeros({batch_, y_.length, x_.length, inputs_}, options_);
    inverse_inputs(sum, result);
    return result;
  }

 private:
  enum class Margin { with, without };  // whether a tile holds its outputs' neighbours within reach of the kernel

  std::int64_t tiles() const { return batch_ * y_.tiles * x_.tiles; }

  template <typename Work>
  void for_each_block(const Work& work) const {
    const std::int64_t bytes_per_output = 3 * plan_.frequencies() * inputs_ * static_cast<std::int64_t>(sizeof(T));
    const std::int64_t block = std::clamp<std::int64_t>(block_bytes / bytes_per_output / 16 * 16, 16, outputs_);
    for (std::int64_t first = 0; first < outputs_; first += block) work(first, std::min(block, outputs_ - first));
  }

  torch::Tensor take(Scratch& scratch, std::int64_t rows, std::int64_t channels) const {
    return scratch.take(3 * plan_.frequencies(), rows, channels);
  }

  // The spectrum's part that belongs to one row, from one channel on.
  template <typename Element>
  SpectrumView<Element> row_of(const torch::Tensor& spectrum, std::int64_t row, std::int64_t channel) const {
    const std::int64_t stride = spectrum.stride(0);
    return {spectrum.data_ptr<T>() + row * spectrum.size(2) + channel, plan_.frequencies() * stride, stride};
  }

  // The tile's part that lies in the image, where the image is [B, H, W, channels].
  template <typename Element>
  TileView<Element> tile_of(const torch::Tensor& image, std::int64_t tile, Margin margin, std::int64_t channel) const {
    const std::int64_t per_image = y_.tiles * x_.tiles;
    const auto range = [&](const Axis& axis, std::int64_t index) {
      const std::int64_t origin = index * axis.outputs - (margin == Margin::with ? axis.kernel / 2 : 0);
      const std::int64_t size = margin == Margin::with ? axis.side : axis.outputs;
      return std::array{origin, std::max<std::int64_t>(0, -origin), std::min(size, axis.length - origin)};
    };
    const auto y = range(y_, tile % per_image / x_.tiles), x = range(x_, tile % x_.tiles);
    const std::int64_t stride_x = image.size(3), stride_y = x_.length * stride_x;
    T* start =
        image.data_ptr<T>() + (tile / per_image) * y_.length * stride_y + y[0] * stride_y + x[0] * stride_x + channel;
    return {start, stride_y, stride_x, y[1], y[2], x[1], x[2]};
  }

  torch::Tensor transformed_image(const torch::Tensor& image, Margin margin, ThirdPlane third,
                                  std::int64_t first_channel, std::int64_t channels, Scratch& scratch) const {
    const torch::Tensor spectrum = take(scratch, tiles(), channels);
    at::parallel_for(0, tiles(), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t tile = begin; tile < end; ++tile) {
        kernels::tile_transform<T>().forward(plan_.tables(), tile_of<const T>(image, tile, margin, first_channel),
                                             channels, third, row_of<T>(spectrum, tile, 0));
      }
    });
    return spectrum;
  }

  torch::Tensor transformed_kernel(const KernelSum<T>& kernel, std::int64_t first, std::int64_t count,
                                   Scratch& scratch) const {
    const torch::Tensor spectrum = take(scratch, count, inputs_);
    at::parallel_for(0, count, 1, [&](std::int64_t begin, std::int64_t end) {
      std::vector<T> taps(static_cast<std::size_t>(kernel.numel()));
      for (std::int64_t row = begin; row < end; ++row) {
        kernel.sum(first + row, taps.data());
        kernels::tile_transform<T>().forward(plan_.tables(), view_of<const T>(taps), inputs_, ThirdPlane::difference,
                                             row_of<T>(spectrum, row, 0));
      }
    });
    return spectrum;
  }

  template <typename Element>
  TileView<Element> view_of(std::vector<T>& taps) const {
    return {taps.data(), x_.kernel * inputs_, inputs_, 0, y_.kernel, 0, x_.kernel};
  }

  void inverse_outputs(const torch::Tensor& product, std::int64_t first, std::int64_t count,
                       const torch::Tensor& output) const {
    at::parallel_for(0, tiles(), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t tile = begin; tile < end; ++tile) {
        kernels::tile_transform<T>().inverse(plan_.tables(), row_of<const T>(product, tile, 0), count,
                                             Product::with_conjugate, false,
                                             tile_of<T>(output, tile, Margin::without, first));
      }
    });
  }

  void inverse_kernel(const torch::Tensor& product, std::int64_t first, std::int64_t count,
                      const KernelSum<T>& kernel) const {
    at::parallel_for(0, count, 1, [&](std::int64_t begin, std::int64_t end) {
      std::vector<T> taps(static_cast<std::size_t>(kernel.numel()));
      for (std::int64_t row = begin; row < end; ++row) {
        kernels::tile_transform<T>().inverse(plan_.tables(), row_of<const T>(product, row, 0), inputs_,
                                             Product::with_conjugate, false, view_of<T>(taps));
        kernel.spread(first + row, taps.data());
      }
    });
  }

  // Neighbouring tiles overlap in the input: threads share out images, not tiles.
  void inverse_inputs(const torch::Tensor& product, const torch::Tensor& image) const {
    const std::int64_t per_image = y_.tiles * x_.tiles;
    at::parallel_for(0, batch_, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t tile = begin * per_image; tile < end * per_image; ++tile) {
        kernels::tile_transform<T>().inverse(plan_.tables(), row_of<const T>(product, tile, 0), inputs_,
                                             Product::of_differences, true, tile_of<T>(image, tile, Margin::with, 0));
      }
    });
  }

  Axis y_, x_;
  std::int64_t batch_, inputs_, outputs_;
  torch::TensorOptions options_;
  TilePlan<T> plan_;
};

template <typename Work>
auto with_type(const torch::Tensor& tensor, const Work& work) {
  return tensor.scalar_type() == torch::kFloat64 ? work(double{}) : work(float{});
}

// Where LibTorch has a fast convolution of its own: the merged kernel in one call, differentiated by autograd.
torch::Tensor merged_conv(const torch::Tensor& input, const std::vector<torch::Tensor>& weights) {
  std::int64_t height = 1, width = 1;
  for (const torch::Tensor& weight : weights) {
    height = std::max(height, weight.size(2));
    width = std::max(width, weight.size(3));
  }
  torch::Tensor merged;
  for (const torch::Tensor& weight : weights) {
    const std::int64_t y = (height - weight.size(2)) / 2, x = (width - weight.size(3)) / 2;
    const torch::Tensor padded = torch::constant_pad_nd(weight, {x, x, y, y});
    merged = merged.defined() ? merged + padded : padded;
  }
  return torch::conv2d(input.permute({0, 3, 1, 2}), merged, {}, 1, {height / 2, width / 2})
      .permute({0, 2, 3, 1})
      .contiguous();
}

// Variables: input, then the weights.
class SummedConvFunction : public torch::autograd::Function<SummedConvFunction> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, at::TensorList list) {
    const torch::autograd::variable_list variables = list.vec();
    context->save_for_backward(variables);
    const Call call(variables);
    return with_type(call.input, [&](auto zero) {
      using T = decltype(zero);
      return call.algorithm<T>().forward(call.input, call.kernel_sum<T>(call.weights));
    });
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const torch::autograd::variable_list variables = context->get_saved_variables();
    const Call call(variables);
    const torch::Tensor gradient = gradients[0].contiguous();
    torch::autograd::variable_list result(variables.size());
    std::vector<torch::Tensor> weight_gradients(call.weights.size());
    bool any_weight = false;
    for (std::size_t j = 0; j < call.weights.size(); ++j) {
      if (!context->needs_input_grad(j + 1)) continue;
      weight_gradients[j] = result[j + 1] = torch::empty_like(call.weights[j]);
      any_weight = true;
    }
    with_type(call.input, [&](auto zero) {
      using T = decltype(zero);
      const auto algorithm = call.algorithm<T>();
      if (context->needs_input_grad(0)) {
        result[0] = algorithm.backward_input(call.kernel_sum<T>(call.weights), gradient);
      }
      if (any_weight) algorithm.backward_kernel(call.input, gradient, call.kernel_sum<T>(weight_gradients));
      return 0;
    });
    return result;
  }

 private:
  struct Call {
    explicit Call(const torch::autograd::variable_list& variables) : input(variables[0].contiguous()) {
      for (std::size_t j = 1; j < variables.size(); ++j) {
        weights.push_back(variables[j].detach().contiguous());
        height = std::max(height, variables[j].size(2));
        width = std::max(width, variables[j].size(3));
      }
    }

    template <typename T>
    SpectralConv<T> algorithm() const {
      return SpectralConv<T>(input, weights[0].size(0), height, width);
    }

    template <typename T>
    KernelSum<T> kernel_sum(const std::vector<torch::Tensor>& of) const {
      return KernelSum<T>(of, height, width, input.size(3));
    }

    torch::Tensor input;
    std::vector<torch::Tensor> weights;
    std::int64_t height = 1, width = 1;
  };
};

}  // namespace

torch::Tensor summed_conv2d(const torch::Tensor& input, const std::vector<torch::Tensor>& weights,
                            const std::vector<torch::Tensor>& biases) {
  check(input, weights, biases);
  torch::autograd::variable_list variables = {input};
  variables.insert(variables.end(), weights.begin(), weights.end());
  torch::Tensor output =
      input.is_cpu() ? SummedConvFunction::apply(at::TensorList(variables)) : merged_conv(input, weights);
  if (biases.empty()) return output;
  torch::Tensor bias = biases[0];
  for (std::size_t j = 1; j < biases.size(); ++j) bias = bias + biases[j];
  return output + bias;
}

}  // namespace filo
