#include "model/tensors.hpp"

#include <array>
#include <cstring>
#include <utility>

#include "base/error.hpp"
#include "base/text.hpp"

namespace filo {
namespace {

constexpr std::array<std::pair<const char*, torch::ScalarType>, 12> dtypes = {{{"F64", torch::kFloat64},
                                                                               {"F32", torch::kFloat32},
                                                                               {"F16", torch::kFloat16},
                                                                               {"BF16", torch::kBFloat16},
                                                                               {"F8_E4M3", torch::kFloat8_e4m3fn},
                                                                               {"F8_E5M2", torch::kFloat8_e5m2},
                                                                               {"I64", torch::kInt64},
                                                                               {"I32", torch::kInt32},
                                                                               {"I16", torch::kInt16},
                                                                               {"I8", torch::kInt8},
                                                                               {"U8", torch::kUInt8},
                                                                               {"BOOL", torch::kBool}}};

const char* dtype_name(torch::ScalarType type, const std::string& where) {
  for (const auto& [name, scalar_type] : dtypes) {
    if (scalar_type == type) return name;
  }
  throw Error(where, std::string("dtype ") + c10::toString(type) + " cannot be stored in safetensors");
}

}  // namespace

torch::Tensor to_tensor(const TensorView& view, const std::string& where) {
  for (const auto& [name, scalar_type] : dtypes) {
    if (view.dtype != name) continue;
    torch::Tensor tensor = torch::empty(view.shape, scalar_type);
    if (!view.bytes.empty()) std::memcpy(tensor.data_ptr(), view.bytes.data(), view.bytes.size());
    return tensor;
  }
  throw UsageError(where, "dtype " + view.dtype + " is not supported here");
}

TensorMap load_tensors(const std::filesystem::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  TensorMap tensors;
  for (const std::string& name : file.names()) tensors[name] = to_tensor(file.at(name), path.string() + ": " + name);
  return tensors;
}

void save_tensors(const std::filesystem::path& path, const TensorMap& tensors,
                  const std::map<std::string, std::string>& metadata, Sha256* digest) {
  TensorMap contiguous;
  std::map<std::string, TensorView> views;
  for (const auto& [name, tensor] : tensors) {
    const torch::Tensor stored = contiguous[name] = tensor.detach().to(torch::kCPU).contiguous();
    const auto bytes = std::span(static_cast<const std::byte*>(stored.const_data_ptr()), stored.nbytes());
    views[name] = {dtype_name(stored.scalar_type(), path.string() + ": " + name), stored.sizes().vec(), bytes};
  }
  write_safetensors(path, views, metadata, digest);
}

void expect_shape(const torch::Tensor& tensor, const std::vector<std::int64_t>& expected, const std::string& where) {
  const auto found = tensor.sizes();
  bool equal = found.size() == expected.size();
  for (std::size_t i = 0; equal && i < expected.size(); ++i) equal = expected[i] == -1 || expected[i] == found[i];
  if (equal) return;
  std::string wanted = "[";
  for (std::size_t i = 0; i < expected.size(); ++i) {
    wanted += (i ? ", " : "") + (expected[i] == -1 ? std::string("any") : std::to_string(expected[i]));
  }
  throw UsageError(where, "shape " + shape_to_string(found) + ", expected " + wanted + "]");
}

void expect_finite(const torch::Tensor& tensor, const std::string& where) {
  if (!tensor.is_floating_point()) return;
  const torch::NoGradGuard no_grad;
  // One pass decides the usual case: the sum of x * 0 is 0 unless something is not finite.
  const torch::Tensor values =
      tensor.detach().to(tensor.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32);
  if (values.mul(0).sum().item<double>() == 0.0) return;
  const auto nan = values.isnan().sum().item<std::int64_t>();
  const auto infinite = values.isinf().sum().item<std::int64_t>();
  throw UsageError(where, "shape " + shape_to_string(tensor.sizes()) + " holds " + std::to_string(nan) + " NaN and " +
                              std::to_string(infinite) + " infinite values, expected finite numbers");
}

const torch::Tensor& expect_tensor(const TensorMap& tensors, const std::string& name, const std::string& where) {
  const auto found = tensors.find(name);
  if (found != tensors.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [present, tensor] : tensors) names.push_back(present);
  throw UsageError(where + ": " + name, "no such tensor" + did_you_mean(name, names));
}

}  // namespace filo
