#include "model/summed_conv.hpp"

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

  torch::Tensor take(at::IntArrayRef sizes) {
    const std::int64_t count = c10::multiply_integers(sizes);
    if (!buffer_.defined() || buffer_.numel() < count) buffer_ = torch::empty({count}, options_);
    return buffer_.narrow(0, 0, count).view(sizes);
  }

 private:
  torch::TensorOptions options_;
  torch::Tensor buffer_;
};

// One axis: the image is cut into tiles that each give `outputs` outputs and, transformed, have `side` elements.
struct Axis {
  Axis(std::int64_t length_, std::int64_t kernel_) : length(length_), kernel(kernel_) {
    // 19 is the fastest side for 7 x 7 kernels (docs/performance.md); larger kernels need a larger one.
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

  // input [B, H, W, C_in], kernel [kh, kw, C_out, C_in] -> [B, H, W, C_out]
  torch::Tensor forward(const torch::Tensor& input, const torch::Tensor& kernel) const {
    Scratch inputs(options_);
    const torch::Tensor input_spectrum = transformed_image(input, Margin::with, ThirdPlane::sum, 0, inputs_, inputs);
    torch::Tensor output = torch::empty({batch_, y_.length, x_.length, outputs_}, options_);
    Scratch kernel_scratch(options_), products(options_);
    for_each_block([&](std::int64_t first, std::int64_t count) {
      const torch::Tensor kernel_spectrum = transformed_kernel(kernel, first, count, kernel_scratch);
      torch::Tensor product = products.take(spectrum_sizes(tiles(), count));
      at::bmm_out(product, input_spectrum, kernel_spectrum.transpose(1, 2));
      inverse_outputs(product, first, count, output);
    });
    return output;
  }

  // gradient [B, H, W, C_out] -> the kernel's gradient [kh, kw, C_out, C_in]
  torch::Tensor kernel_gradient(const torch::Tensor& input, const torch::Tensor& gradient) const {
    Scratch inputs(options_);
    const torch::Tensor input_spectrum = transformed_image(input, Margin::with, ThirdPlane::sum, 0, inputs_, inputs);
    torch::Tensor result = torch::empty({y_.kernel, x_.kernel, outputs_, inputs_}, options_);
    Scratch gradients(options_), products(options_);
    for_each_block([&](std::int64_t first, std::int64_t count) {
      const torch::Tensor spectrum =
          transformed_image(gradient, Margin::without, ThirdPlane::difference, first, count, gradients);
      torch::Tensor product = products.take(spectrum_sizes(count, inputs_));
      at::bmm_out(product, spectrum.transpose(1, 2), input_spectrum);
      inverse_kernel(product, first, count, result);
    });
    return result;
  }

  torch::Tensor input_gradient(const torch::Tensor& kernel, const torch::Tensor& gradient) const {
    torch::Tensor sum;
    Scratch gradients(options_), kernel_scratch(options_);
    for_each_block([&](std::int64_t first, std::int64_t count) {
      const torch::Tensor spectrum =
          transformed_image(gradient, Margin::without, ThirdPlane::difference, first, count, gradients);
      const torch::Tensor kernel_spectrum = transformed_kernel(kernel, first, count, kernel_scratch);
      if (sum.defined()) {
        sum.baddbmm_(spectrum, kernel_spectrum);
      } else {
        sum = torch::bmm(spectrum, kernel_spectrum);
      }
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

  std::array<std::int64_t, 3> spectrum_sizes(std::int64_t rows, std::int64_t channels) const {
    return {3 * plan_.frequencies(), rows, channels};
  }

  // The spectrum's part that belongs to one row, from one channel on.
  template <typename Element>
  SpectrumView<Element> row_of(const torch::Tensor& spectrum, std::int64_t row, std::int64_t channel) const {
    const std::int64_t stride = spectrum.size(1) * spectrum.size(2);
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
    const torch::Tensor spectrum = scratch.take(spectrum_sizes(tiles(), channels));
    at::parallel_for(0, tiles(), 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t tile = begin; tile < end; ++tile) {
        kernels::tile_transform<T>().forward(plan_.tables(), tile_of<const T>(image, tile, margin, first_channel),
                                             channels, third, row_of<T>(spectrum, tile, 0));
      }
    });
    return spectrum;
  }

  torch::Tensor transformed_kernel(const torch::Tensor& kernel, std::int64_t first, std::int64_t count,
                                   Scratch& scratch) const {
    const torch::Tensor spectrum = scratch.take(spectrum_sizes(count, inputs_));
    at::parallel_for(0, count, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        kernels::tile_transform<T>().forward(plan_.tables(), kernel_view<const T>(kernel, first + row), inputs_,
                                             ThirdPlane::difference, row_of<T>(spectrum, row, 0));
      }
    });
    return spectrum;
  }

  template <typename Element>
  TileView<Element> kernel_view(const torch::Tensor& kernel, std::int64_t output) const {
    const std::int64_t stride_x = outputs_ * inputs_;
    return {kernel.data_ptr<T>() + output * inputs_, x_.kernel * stride_x, stride_x, 0, y_.kernel, 0, x_.kernel};
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
                      const torch::Tensor& kernel) const {
    at::parallel_for(0, count, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row) {
        kernels::tile_transform<T>().inverse(plan_.tables(), row_of<const T>(product, row, 0), inputs_,
                                             Product::with_conjugate, false, kernel_view<T>(kernel, first + row));
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

// The part of [kh, kw, ...] that a smaller kernel with the same centre covers.
torch::Tensor centre(const torch::Tensor& merged, std::int64_t height, std::int64_t width) {
  return merged.narrow(0, (merged.size(0) - height) / 2, height).narrow(1, (merged.size(1) - width) / 2, width);
}

// [kh, kw, C_out, C_in]: the sum of the zero-padded kernels, taps outermost.
torch::Tensor merged_kernel(const std::vector<torch::Tensor>& weights, std::int64_t height, std::int64_t width) {
  const torch::Tensor& any = weights[0];
  torch::Tensor merged = torch::zeros({height, width, any.size(0), any.size(1)}, any.options());
  for (const torch::Tensor& weight : weights)
    centre(merged, weight.size(2), weight.size(3)).add_(weight.permute({2, 3, 0, 1}));
  return merged;
}

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
      return call.algorithm<decltype(zero)>().forward(call.input, merged_kernel(call.weights, call.height, call.width));
    });
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const torch::autograd::variable_list variables = context->get_saved_variables();
    const Call call(variables);
    const torch::Tensor gradient = gradients[0].contiguous();
    torch::autograd::variable_list result(variables.size());
    bool any_weight = false;
    for (std::size_t i = 1; i < variables.size(); ++i) any_weight |= context->needs_input_grad(i);
    with_type(call.input, [&](auto zero) {
      const auto algorithm = call.algorithm<decltype(zero)>();
      if (context->needs_input_grad(0)) {
        result[0] = algorithm.input_gradient(merged_kernel(call.weights, call.height, call.width), gradient);
      }
      if (!any_weight) return 0;
      const torch::Tensor merged = algorithm.kernel_gradient(call.input, gradient);
      for (std::size_t i = 1; i < variables.size(); ++i) {
        if (!context->needs_input_grad(i)) continue;
        result[i] = centre(merged, variables[i].size(2), variables[i].size(3)).permute({2, 3, 0, 1}).contiguous();
      }
      return 0;
    });
    return result;
  }

 private:
  struct Call {
    explicit Call(const torch::autograd::variable_list& variables)
        : input(variables[0].contiguous()), weights(variables.begin() + 1, variables.end()) {
      for (const torch::Tensor& weight : weights) {
        height = std::max(height, weight.size(2));
        width = std::max(width, weight.size(3));
      }
    }

    template <typename T>
    SpectralConv<T> algorithm() const {
      return SpectralConv<T>(input, weights[0].size(0), height, width);
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
