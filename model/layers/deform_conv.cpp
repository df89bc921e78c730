#include "model/layers/deform_conv.hpp"

#include <ATen/Parallel.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <sstream>
#include <string_view>

#include "base/error.hpp"
#include "model/kernels/deform_conv.hpp"
#include "model/kernels/deform_conv_cuda.hpp"
#include "model/layers/deform_fused.hpp"

namespace filo {
namespace {

using kernels::Bfloat16;
using kernels::DeformConvGradients;
using kernels::DeformConvInput;
using kernels::DeformConvShape;

// Columns are made, multiplied and forgotten in tiles of this many bytes, so that they stay in the last-level cache.
constexpr std::int64_t tile_bytes = std::int64_t{16} << 20;
constexpr std::int64_t tile_rows = 1024;

struct Tiling {
  std::int64_t rows;  // output positions per tile
  std::int64_t taps;  // taps per tile
};

Tiling tiling(const DeformConvShape& shape, std::int64_t element_bytes) {
  const std::int64_t rows = std::min(shape.rows(), tile_rows);
  const std::int64_t taps = tile_bytes / std::max<std::int64_t>(1, rows * shape.channels * element_bytes);
  return {rows, std::clamp<std::int64_t>(taps, 1, shape.taps())};
}

std::string sizes(const torch::Tensor& tensor) {
  std::ostringstream text;
  text << tensor.sizes() << ' ' << tensor.scalar_type() << ' ' << tensor.device();
  return text.str();
}

void expect(const char* name, const torch::Tensor& tensor, const torch::Tensor& like,
            const std::vector<std::int64_t>& shape) {
  if (tensor.sizes() == shape && tensor.scalar_type() == like.scalar_type() && tensor.device() == like.device()) return;
  std::ostringstream expected;
  expected << torch::IntArrayRef(shape) << ' ' << like.scalar_type() << ' ' << like.device();
  throw Error(std::string("deform_conv2d: ") + name, "found " + sizes(tensor) + ", expected " + expected.str());
}

DeformConvShape shape_of(const torch::Tensor& input, const torch::Tensor& weight) {
  return {input.size(0), input.size(1), input.size(2), input.size(3), weight.size(2), weight.size(3)};
}

DeformConvShape checked_shape(const torch::Tensor& input, const torch::Tensor& weight, const torch::Tensor& offset,
                              const std::optional<torch::Tensor>& mask, Precision precision) {
  const auto type = input.scalar_type();
  if (input.dim() != 4 || input.numel() == 0 || (type != torch::kFloat32 && type != torch::kFloat64)) {
    throw Error("deform_conv2d: input",
                "found " + sizes(input) + ", expected [B, H, W, C_in] float32 or float64, not empty");
  }
  if (weight.dim() != 4 || weight.size(0) == 0 || weight.size(2) % 2 == 0 || weight.size(3) % 2 == 0) {
    throw Error("deform_conv2d: weight",
                "found " + sizes(weight) + ", expected [C_out, " + std::to_string(input.size(3)) + ", odd, odd]");
  }
  if (precision == Precision::bf16 && type != torch::kFloat32) {
    throw Error("deform_conv2d: input", "found " + sizes(input) + ", expected float32 with precision bf16");
  }
  const DeformConvShape shape = shape_of(input, weight);
  expect("weight", weight, input, {weight.size(0), shape.channels, shape.kernel_height, shape.kernel_width});
  expect("offset", offset, input, {shape.batch, 2 * shape.taps(), shape.height, shape.width});
  if (mask) expect("mask", *mask, input, {shape.batch, shape.taps(), shape.height, shape.width});
  return shape;
}

// Calls work(first_row, row_count, columns_offset_in_rows) on ranges of [first, first + count), on all threads.
template <typename Work>
void parallel_rows(std::int64_t first, std::int64_t count, std::int64_t grain, const Work& work) {
  at::parallel_for(0, count, grain,
                   [&](std::int64_t begin, std::int64_t end) { work(first + begin, end - begin, begin); });
}

// PyTorch's current stream of the tensor's device, through c10's registry of devices: no link to libtorch_cuda or
// libc10_cuda.
kernels::CudaStream current_stream(const torch::Tensor& tensor) {
  return c10::impl::VirtualGuardImpl(tensor.device().type()).getStream(tensor.device()).native_handle();
}

// One call's data in one place: what both passes need, typed by the kernels' element.
template <typename T>
class DeformConv {
 public:
  DeformConv(const DeformConvShape& shape, torch::Tensor input, const torch::Tensor& weight, torch::Tensor offset,
             torch::Tensor mask, Precision precision)
      : shape_(shape),
        precision_(precision),
        input_(std::move(input)),
        offset_(std::move(offset)),
        mask_(std::move(mask)),
        column_type_(precision == Precision::bf16 ? torch::kBFloat16 : input_.scalar_type()),
        // [taps * C_in, C_out]
        matrix_(weight.permute({2, 3, 1, 0}).reshape({-1, weight.size(0)}).to(column_type_)),
        tiling_(tiling(shape, column_type_ == torch::kBFloat16 ? 2 : static_cast<std::int64_t>(sizeof(T)))) {
    in_.input = input_.template data_ptr<T>();
    in_.offset = offset_.template data_ptr<T>();
    in_.mask = mask_.defined() ? mask_.template data_ptr<T>() : nullptr;
  }

  torch::Tensor forward() const {  // [rows, C_out]
    torch::Tensor output = torch::zeros({shape_.rows(), matrix_.size(1)}, input_.options());
    for_each_tile([&](std::int64_t row, std::int64_t rows, std::int64_t tap, std::int64_t taps) {
      add_product(output.narrow(0, row, rows), gathered(row, rows, tap, taps), matrix_taps(tap, taps));
    });
    return output;
  }

  // gradient: [rows, C_out]. Fills those of the three that are defined: input_gradient as input (zeros on entry), and
  // so on. Returns the weight's gradient [taps * C_in, C_out] where wanted.
  torch::Tensor backward(const torch::Tensor& gradient, bool weight_wanted, torch::Tensor& offset_gradient,
                         torch::Tensor& mask_gradient, torch::Tensor& input_gradient) const {
    const torch::Tensor typed = gradient.to(column_type_);
    torch::Tensor weight_gradient;
    if (weight_wanted) weight_gradient = torch::zeros(matrix_.sizes(), input_.options());
    DeformConvGradients<T> out;
    out.offset = offset_gradient.defined() ? offset_gradient.data_ptr<T>() : nullptr;
    out.mask = mask_gradient.defined() ? mask_gradient.data_ptr<T>() : nullptr;
    out.input = input_gradient.defined() ? input_gradient.data_ptr<T>() : nullptr;
    for_each_tile([&](std::int64_t row, std::int64_t rows, std::int64_t tap, std::int64_t taps) {
      const torch::Tensor tile_gradient = typed.narrow(0, row, rows);
      if (weight_wanted) {
        add_product(weight_gradient.narrow(0, tap * shape_.channels, taps * shape_.channels),
                    gathered(row, rows, tap, taps).t(), tile_gradient);
      }
      if (!out.offset && !out.mask && !out.input) return;
      const torch::Tensor columns = at::mm(tile_gradient, matrix_taps(tap, taps).t()).to(input_.scalar_type());
      scatter(row, rows, tap, taps, columns.data_ptr<T>(), out);
    });
    return weight_gradient;
  }

 private:
  template <typename Work>
  void for_each_tile(const Work& work) const {
    for (std::int64_t tap = 0; tap < shape_.taps(); tap += tiling_.taps) {
      const std::int64_t taps = std::min(tiling_.taps, shape_.taps() - tap);
      for (std::int64_t row = 0; row < shape_.rows(); row += tiling_.rows) {
        work(row, std::min(tiling_.rows, shape_.rows() - row), tap, taps);
      }
    }
  }

  torch::Tensor matrix_taps(std::int64_t tap, std::int64_t taps) const {
    return matrix_.narrow(0, tap * shape_.channels, taps * shape_.channels);
  }

  torch::Tensor gathered(std::int64_t row, std::int64_t rows, std::int64_t tap, std::int64_t taps) const {
    torch::Tensor columns = torch::empty({rows, taps * shape_.channels}, input_.options().dtype(column_type_));
    if (input_.is_cuda()) {
      gather_on_device(row, rows, tap, taps, columns);
      return columns;
    }
    parallel_rows(row, rows, 8, [&](std::int64_t first, std::int64_t count, std::int64_t done) {
      const std::int64_t at = done * taps * shape_.channels;
      if constexpr (std::is_same_v<T, float>) {
        if (precision_ == Precision::bf16) {
          kernels::gather_columns(shape_, in_, first, count, tap, taps,
                                  static_cast<Bfloat16*>(columns.data_ptr()) + at);
          return;
        }
      }
      kernels::gather_columns(shape_, in_, first, count, tap, taps, columns.data_ptr<T>() + at);
    });
    return columns;
  }

  void gather_on_device(std::int64_t row, std::int64_t rows, std::int64_t tap, std::int64_t taps,
                        const torch::Tensor& columns) const {
    const c10::DeviceGuard guard(input_.device());
    if constexpr (std::is_same_v<T, float>) {
      if (precision_ == Precision::bf16) {
        kernels::gather_columns_cuda(shape_, in_, row, rows, tap, taps, static_cast<Bfloat16*>(columns.data_ptr()),
                                     current_stream(input_));
        return;
      }
    }
    kernels::gather_columns_cuda(shape_, in_, row, rows, tap, taps, columns.data_ptr<T>(), current_stream(input_));
  }

  void scatter(std::int64_t row, std::int64_t rows, std::int64_t tap, std::int64_t taps, const T* columns,
               const DeformConvGradients<T>& out) const {
    if (input_.is_cuda()) {
      const c10::DeviceGuard guard(input_.device());
      kernels::scatter_columns_cuda(shape_, in_, row, rows, tap, taps, columns, out, current_stream(input_));
      return;
    }
    // Rows of one image add to the same pixels: whole images, then, are what threads can share out.
    const std::int64_t grain = out.input ? rows : 8;
    parallel_rows(row, rows, grain, [&](std::int64_t first, std::int64_t count, std::int64_t done) {
      kernels::scatter_columns(shape_, in_, first, count, tap, taps, columns + done * taps * shape_.channels, out);
    });
  }

  static void add_product(torch::Tensor sum, const torch::Tensor& a, const torch::Tensor& b) {
    if (a.scalar_type() == sum.scalar_type()) {
      sum.addmm_(a, b);
    } else {
      sum.add_(at::mm(a, b));
    }
  }

  DeformConvShape shape_;
  Precision precision_;
  torch::Tensor input_, offset_, mask_;
  torch::ScalarType column_type_;
  torch::Tensor matrix_;
  Tiling tiling_;
  DeformConvInput<T> in_;
};

DeformKernels chosen_kernels() {
  const char* named = std::getenv("FILO_DEFORM");
  const std::string_view name = named == nullptr ? "" : named;
  if (!name.empty() && name != "columns" && name != "fused")
    throw UsageError("FILO_DEFORM", "found '" + std::string(name) + "', expected columns or fused");
  const bool available = fused_deform_available(Precision::fp32);
  if (name == "fused" && !available) throw UsageError("FILO_DEFORM", "this CPU lacks the products that fused takes");
  return name != "columns" && available ? DeformKernels::fused : DeformKernels::columns;
}

bool takes_fused(const torch::Tensor& input, Precision precision, DeformKernels by) {
  return by == DeformKernels::fused && input.is_cpu() && input.scalar_type() == torch::kFloat32 &&
         fused_deform_available(precision) && input.numel() / input.size(3) < std::numeric_limits<std::int32_t>::max();
}

class DeformConvFunction : public torch::autograd::Function<DeformConvFunction> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& input,
                               const torch::Tensor& weight, const torch::Tensor& offset,
                               const std::optional<torch::Tensor>& optional_mask, std::int64_t precision, bool fused) {
    const torch::Tensor mask = optional_mask.value_or(torch::Tensor());
    context->save_for_backward({input, weight, offset, mask});
    context->saved_data["precision"] = precision;
    context->saved_data["fused"] = fused;
    const auto wanted = static_cast<Precision>(precision);
    const torch::Tensor output = fused ? fused_deform_forward(FusedOperands(input, weight, offset, mask, wanted).call)
                                       : dispatch(input, [&](auto zero) {
                                           return make<decltype(zero)>(input, weight, offset, mask, wanted).forward();
                                         });
    return output.view({input.size(0), input.size(1), input.size(2), weight.size(0)});
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const torch::Tensor &input = saved[0], &weight = saved[1], &offset = saved[2], &mask = saved[3];
    const auto precision = static_cast<Precision>(context->saved_data["precision"].toInt());
    const torch::Tensor gradient = gradients[0].contiguous().view({-1, weight.size(0)});
    torch::Tensor offset_gradient, mask_gradient, input_gradient;
    if (context->needs_input_grad(2)) offset_gradient = torch::empty_like(offset, torch::MemoryFormat::Contiguous);
    if (mask.defined() && context->needs_input_grad(3)) {
      mask_gradient = torch::empty_like(mask, torch::MemoryFormat::Contiguous);
    }
    const bool weight_wanted = context->needs_input_grad(1);
    if (context->saved_data["fused"].toBool()) {
      kernels::DeformConvGradients<float> out;
      if (offset_gradient.defined()) out.offset = offset_gradient.data_ptr<float>();
      if (mask_gradient.defined()) out.mask = mask_gradient.data_ptr<float>();
      const auto found = fused_deform_backward(FusedOperands(input, weight, offset, mask, precision).call, gradient,
                                               context->needs_input_grad(0), weight_wanted, out);
      return {found.input, found.weight, offset_gradient, mask_gradient, torch::Tensor(), torch::Tensor()};
    }
    if (context->needs_input_grad(0)) input_gradient = torch::zeros_like(input, torch::MemoryFormat::Contiguous);
    torch::Tensor weight_gradient = dispatch(input, [&](auto zero) {
      return make<decltype(zero)>(input, weight, offset, mask, precision)
          .backward(gradient, weight_wanted, offset_gradient, mask_gradient, input_gradient);
    });
    if (weight_wanted) {
      weight_gradient = weight_gradient.view({weight.size(2), weight.size(3), weight.size(1), weight.size(0)})
                            .permute({3, 2, 0, 1})
                            .contiguous();
    }
    return {input_gradient, weight_gradient, offset_gradient, mask_gradient, torch::Tensor(), torch::Tensor()};
  }

 private:
  // A call and the contiguous tensors that its pointers are of.
  struct FusedOperands {
    FusedOperands(const torch::Tensor& input, const torch::Tensor& weight, const torch::Tensor& given_offset,
                  const torch::Tensor& given_mask, Precision precision)
        : offset(given_offset.contiguous()), mask(given_mask.defined() ? given_mask.contiguous() : given_mask) {
      call.shape = shape_of(input, weight);
      call.input = input.contiguous();
      call.weight = weight;
      call.in = {call.input.data_ptr<float>(), offset.data_ptr<float>(),
                 mask.defined() ? mask.data_ptr<float>() : nullptr};
      call.precision = precision;
    }
    torch::Tensor offset, mask;
    FusedDeformCall call;
  };

  template <typename Work>
  static torch::Tensor dispatch(const torch::Tensor& input, const Work& work) {
    return input.scalar_type() == torch::kFloat64 ? work(double{}) : work(float{});
  }

  template <typename T>
  static DeformConv<T> make(const torch::Tensor& input, const torch::Tensor& weight, const torch::Tensor& offset,
                            const torch::Tensor& mask, Precision precision) {
    return DeformConv<T>(shape_of(input, weight), input.contiguous(), weight, offset.contiguous(),
                         mask.defined() ? mask.contiguous() : mask, precision);
  }
};

}  // namespace

DeformKernels deform_kernels() {
  static const DeformKernels all = chosen_kernels();
  return all;
}

const char* deform_kernels_name(DeformKernels kernels) { return kernels == DeformKernels::fused ? "fused" : "columns"; }

torch::Tensor deform_conv2d(const torch::Tensor& input, const torch::Tensor& weight, const torch::Tensor& offset,
                            const std::optional<torch::Tensor>& mask, Precision precision, DeformKernels by) {
  checked_shape(input, weight, offset, mask, precision);
  return DeformConvFunction::apply(input, weight, offset, mask, static_cast<std::int64_t>(precision),
                                   takes_fused(input, precision, by));
}

}  // namespace filo
