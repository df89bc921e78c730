#include "model/products.hpp"

#include <ATen/core/dispatch/Dispatcher.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.hpp"

namespace filo {
namespace {

Products chosen() {
  const char* named = std::getenv("FILO_PRODUCTS");
  const std::string_view name = named == nullptr ? "" : named;
  if (!name.empty() && name != "libtorch" && name != "onednn")
    throw UsageError("FILO_PRODUCTS", "found '" + std::string(name) + "', expected libtorch or onednn");
  if (name == "onednn" && !at::hasMKLDNN()) throw UsageError("FILO_PRODUCTS", "this LibTorch comes without oneDNN");
  if (!name.empty()) return name == "onednn" ? Products::onednn : Products::libtorch;
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return at::hasMKLDNN() && avx512 && !__builtin_cpu_is("intel") ? Products::onednn : Products::libtorch;
}

// oneDNN's products are of float32 on the CPU.
Products usable(const torch::Tensor& operand, Products by) {
  return operand.device().is_cpu() && operand.scalar_type() == torch::kFloat32 ? by : Products::libtorch;
}

// x weight^T + bias by oneDNN: x and weight [out, in], as it is or packed, of one dtype, bias float32 -> x's dtype.
// Knows no gradients.
torch::Tensor onednn_product(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias) {
  using Call = torch::Tensor(const torch::Tensor&, const torch::Tensor&, const std::optional<torch::Tensor>&,
                             std::string_view, c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
  static const auto call =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Call>();
  return call.call(x, weight, bias.defined() ? std::optional(bias) : std::nullopt, "none",
                   c10::List<std::optional<at::Scalar>>(), "");
}

torch::Tensor packed_for_onednn(const torch::Tensor& weight) {
  using Call = torch::Tensor(const torch::Tensor&, std::optional<std::int64_t>);
  static const auto call =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_reorder_linear_weight", "").typed<Call>();
  return call.call(weight, std::nullopt);
}

torch::Tensor rounded(const torch::Tensor& x, Precision precision) {
  return precision == Precision::bf16 ? x.to(torch::kBFloat16) : x;
}

// x weight^T + bias, the weight in the precision's dtype, float32 or in the precision's dtype. Differentiable by
// LibTorch alone.
torch::Tensor product(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                      Precision precision, Products by) {
  if (by == Products::onednn) return onednn_product(rounded(x, precision), weight, bias);
  if (precision == Precision::fp32) return torch::linear(x, weight, bias);
  const torch::Tensor y = torch::linear(rounded(x, precision), weight).to(torch::kFloat32);
  return bias.defined() ? y + bias : y;
}

torch::Tensor as_rows(const torch::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

// linear() by oneDNN.
class TrainedProduct : public torch::autograd::Function<TrainedProduct> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x,
                               const torch::Tensor& weight, const torch::Tensor& bias, std::int64_t precision) {
    context->save_for_backward({x, weight});
    context->saved_data["precision"] = precision;
    const auto wanted = static_cast<Precision>(precision);
    return product(x, rounded(weight, wanted), bias, wanted, Products::onednn).to(torch::kFloat32);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto precision = static_cast<Precision>(context->saved_data["precision"].toInt());
    const auto of = [precision](const torch::Tensor& rows, const torch::Tensor& columns) {
      return product(rows, rounded(columns, precision).t().contiguous(), {}, precision, Products::onednn)
          .to(torch::kFloat32);
    };
    const torch::Tensor& gradient = gradients[0];
    torch::Tensor of_x, of_weight, of_bias;
    if (context->needs_input_grad(0)) of_x = of(gradient, saved[1]);
    if (context->needs_input_grad(1)) of_weight = of(as_rows(gradient).t(), as_rows(saved[0]));
    if (context->needs_input_grad(2)) of_bias = as_rows(gradient).sum(0);
    return {of_x, of_weight, of_bias, torch::Tensor()};
  }
};

}  // namespace

Products products() {
  static const Products all = chosen();
  return all;
}

Products products_of_training() {
  const char* named = std::getenv("FILO_PRODUCTS");
  return named == nullptr || *named == '\0' ? Products::libtorch : products();
}

const char* products_name(Products products) { return products == Products::onednn ? "onednn" : "libtorch"; }

torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                     Precision precision, Products by) {
  if (usable(x, by) == Products::onednn) {
    const torch::Tensor added = bias.defined() ? bias : torch::zeros({weight.size(0)}, weight.options());
    return TrainedProduct::apply(x, weight, added, static_cast<std::int64_t>(precision));
  }
  return product(x, rounded(weight, precision), bias, precision, Products::libtorch);
}

enum class Direction { forward, backward };

class FrozenLinear::Weights {
 public:
  Weights(torch::Tensor weight, torch::Tensor bias, Products by)
      : by_(usable(weight, by)), weight_(std::move(weight)), bias_(std::move(bias)) {}

  Products by() const { return by_; }

  // Forward x weight^T + bias, backward x weight; as product() has it.
  torch::Tensor times(const torch::Tensor& x, Precision precision, Direction direction) {
    const bool forward = direction == Direction::forward;
    return product(x, form(precision, direction), forward ? bias_ : torch::Tensor(), precision, by_);
  }

 private:
  // The float32 one is kept whatever is wanted: the others are made of it.
  torch::Tensor form(Precision precision, Direction direction) {
    const std::scoped_lock lock(mutex_);
    if (by_ == Products::onednn && !weight_.is_mkldnn()) weight_ = packed_for_onednn(weight_);
    if (precision == Precision::fp32 && direction == Direction::forward) return weight_;
    torch::Tensor& form = forms_[{precision, direction}];
    if (form.defined()) return form;
    const torch::Tensor plain = rounded(weight_.is_mkldnn() ? weight_.to_dense() : weight_, precision);
    form = direction == Direction::forward ? plain : plain.t().contiguous();
    if (by_ == Products::onednn) form = packed_for_onednn(form);
    return form;
  }

  const Products by_;
  std::mutex mutex_;
  torch::Tensor weight_;
  const torch::Tensor bias_;
  std::map<std::pair<Precision, Direction>, torch::Tensor> forms_;
};

namespace {

template <typename T>
class Held : public torch::CustomClassHolder {
 public:
  explicit Held(std::shared_ptr<T> given) : value(std::move(given)) {}
  const std::shared_ptr<T> value;
};

}  // namespace

// A FrozenLinear by oneDNN where a gradient is wanted.
class FrozenProduct : public torch::autograd::Function<FrozenProduct> {
  using Weights = FrozenLinear::Weights;

 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x,
                               std::shared_ptr<Weights> weights, std::int64_t precision) {
    context->saved_data["precision"] = precision;
    context->saved_data["weights"] = c10::IValue::make_capsule(c10::make_intrusive<Held<Weights>>(weights));
    return weights->times(x, static_cast<Precision>(precision), Direction::forward).to(torch::kFloat32);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto weights =
        c10::static_intrusive_pointer_cast<Held<Weights>>(context->saved_data["weights"].toCapsule())->value;
    const auto precision = static_cast<Precision>(context->saved_data["precision"].toInt());
    return {weights->times(gradients[0], precision, Direction::backward).to(torch::kFloat32), torch::Tensor(),
            torch::Tensor()};
  }
};

FrozenLinear::FrozenLinear(torch::Tensor weight, torch::Tensor bias, Products by)
    : weights_(std::make_shared<Weights>(std::move(weight), std::move(bias), by)) {}

torch::Tensor FrozenLinear::operator()(const torch::Tensor& x, Precision precision) const {
  if (weights_->by() == Products::onednn && c10::GradMode::is_enabled() && x.requires_grad())
    return FrozenProduct::apply(x, weights_, static_cast<std::int64_t>(precision));
  return weights_->times(x, precision, Direction::forward).to(torch::kFloat32);
}

torch::Tensor FrozenLinear::in_bfloat16(const torch::Tensor& x) const {
  const torch::NoGradGuard no_grad;
  return weights_->times(x, Precision::bf16, Direction::forward).to(torch::kBFloat16);
}

}  // namespace filo
