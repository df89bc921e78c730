#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/clip/clip.hpp"
#include "model/kernels/row_kernels.hpp"
#include "model/layers/deform_conv.hpp"
#include "model/layers/deform_fused.hpp"
#include "model/layers/summed_conv.hpp"
#include "model/products.hpp"
#include "settings/model.hpp"
#include "settings/train_names.hpp"
#include "trainer/benchmarks.hpp"

namespace filo {
namespace {

constexpr int repetitions = 3;

double best_seconds(const std::function<void()>& work) {
  double best = 0;
  for (int i = 0; i <= repetitions; ++i) {  // the first one warms up
    const auto start = std::chrono::steady_clock::now();
    work();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (i == 1 || (i > 1 && seconds < best)) best = seconds;
  }
  return best;
}

double gemm_rate(torch::ScalarType type) {
  const std::int64_t n = 2048;
  const torch::Tensor a = torch::randn({n, n}).to(type), b = torch::randn({n, n}).to(type);
  return 2.0 * static_cast<double>(n * n * n) / best_seconds([&] { at::mm(a, b); });
}

using Kernel = std::array<std::int64_t, 2>;

std::vector<Kernel> default_kernels() {
  std::vector<Kernel> kernels;
  for (const auto& [height, width] : MdciSettings{}.kernels) kernels.push_back({height, width});
  return kernels;
}

torch::Tensor random_weight(const BenchKernelsOptions& options, const Kernel& kernel) {
  return torch::randn({options.outputs, options.inputs, kernel[0], kernel[1]}).mul_(0.01).requires_grad_();
}

Json deformable(const BenchKernelsOptions& options, const torch::Tensor& input, Precision precision, double rate,
                DeformKernels by) {
  const double rows = static_cast<double>(options.batch) * options.side * options.side;
  Json forward = Json::array(), backward = Json::array();
  double forward_sum = 0, backward_sum = 0;
  const std::string& type = precision_names.name(precision);
  for (const Kernel& kernel : default_kernels()) {
    const std::int64_t taps = kernel[0] * kernel[1];
    const torch::Tensor weight = random_weight(options, kernel);
    const torch::Tensor offset =
        torch::randn({options.batch, 2 * taps, options.side, options.side}).mul_(0.5).requires_grad_();
    torch::Tensor output;
    const double forward_s =
        best_seconds([&] { output = deform_conv2d(input, weight, offset, std::nullopt, precision, by); });
    const torch::Tensor pull = torch::randn_like(output);
    const double backward_s = best_seconds([&] {
      torch::autograd::grad({output}, {weight, offset}, {pull}, /*retain_graph=*/true);
    });
    const double operations = 2 * rows * options.inputs * options.outputs * static_cast<double>(taps);
    const std::string name = std::to_string(kernel[0]) + "x" + std::to_string(kernel[1]);
    const auto entry = [&](const char* pass, double seconds, double work) -> Json {
      return {{"kernel", name}, {"dtype", type},      {"by", deform_kernels_name(by)},
              {"pass", pass},   {"seconds", seconds}, {"fraction_of_gemm", work / seconds / rate}};
    };
    forward.push_back(entry("forward", forward_s, operations));
    backward.push_back(entry("backward", backward_s, 2 * operations));  // weights' and columns' gradients
    forward_sum += forward_s;
    backward_sum += backward_s;
  }
  Json all = Json::array();
  for (Json& entry : forward) {
    entry["share"] = entry["seconds"].get<double>() / forward_sum;
    all.push_back(entry);
  }
  for (Json& entry : backward) {
    entry["share"] = entry["seconds"].get<double>() / backward_sum;
    all.push_back(entry);
  }
  return all;
}

void add_summed(const BenchKernelsOptions& options, const torch::Tensor& input, Json& result) {
  std::vector<torch::Tensor> weights;
  double taps = 0;
  for (const Kernel& kernel : default_kernels()) {
    weights.push_back(random_weight(options, kernel));
    taps += static_cast<double>(kernel[0] * kernel[1]);
  }
  torch::Tensor output;
  const double forward_s = best_seconds([&] { output = summed_conv2d(input, weights, {}); });
  const torch::Tensor pull = torch::randn_like(output);
  const double backward_s =
      best_seconds([&] { torch::autograd::grad({output}, weights, {pull}, /*retain_graph=*/true); });
  const double operations = 2.0 * options.batch * options.side * options.side * options.inputs * options.outputs * taps;
  result["summed"] = {
      {{"pass", "forward"}, {"seconds", forward_s}, {"direct_operations_per_second", operations / forward_s}},
      {{"pass", "backward"}, {"seconds", backward_s}, {"direct_operations_per_second", operations / backward_s}}};

  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> exact_weights;
  for (const auto& weight : weights)
    exact_weights.push_back(weight.narrow(0, 0, std::min(options.outputs, 16)).to(torch::kFloat64));
  const torch::Tensor one = input.narrow(0, 0, 1).to(torch::kFloat64).permute({0, 3, 1, 2});
  torch::Tensor exact;
  for (const auto& weight : exact_weights) {
    const torch::Tensor part = torch::conv2d(one, weight, {}, 1, {weight.size(2) / 2, weight.size(3) / 2});
    exact = exact.defined() ? exact + part : part;
  }
  exact = exact.permute({0, 2, 3, 1});
  const torch::Tensor found = output.narrow(0, 0, 1).narrow(3, 0, exact.size(3));
  result["summed_relative_error"] = ((found - exact).norm() / exact.norm()).item<double>();
}

// One way to run the image tower, and what it came to.
struct TowerRun {
  std::string name;
  std::shared_ptr<const ClipModel> clip;
  Precision precision = Precision::fp32;
  double seconds = 0;                // the best
  torch::Tensor features = {};       // of the last layer
  double operations_per_second = 0;  // of the largest product

  void encode(const torch::Tensor& pixels) {
    VisionOptions wanted;
    wanted.precision = precision;
    const auto start = std::chrono::steady_clock::now();
    features = clip->encode_images(pixels, wanted).qkv.at(wanted.layers.back());
    const double taken = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    seconds = seconds == 0 ? taken : std::min(seconds, taken);
  }

  void multiply(std::int64_t rows) {
    const TowerConfig& tower = clip->vision().config;
    const torch::Tensor x = torch::randn({rows, tower.width});
    const double best = best_seconds([&] { clip->vision().layers.back().fc1(x, precision); });
    operations_per_second = 2.0 * static_cast<double>(rows) * tower.width * tower.mlp / best;
  }
};

}  // namespace

Json bench_tower(const BenchTowerOptions& options) {
  const torch::NoGradGuard no_grad;
  if (options.threads > 0) torch::set_num_threads(options.threads);
  at::globalContext().setFlushDenormal(true);  // as the features stage (trainer/device.cpp)
  const auto clip = ClipModel::load(options.clip);
  const auto plain = ClipModel::load(options.clip, torch::kCPU, ClipTowers::both, Products::libtorch);
  std::vector<TowerRun> runs = {{"libtorch", plain}, {"fp32", clip}, {"bf16", clip, Precision::bf16}};
  torch::manual_seed(0);
  const torch::Tensor pixels = torch::randn({options.batch, 3, options.image_size, options.image_size});
  for (int step = 0; step <= options.steps; ++step) {
    for (TowerRun& run : runs) {
      if (step == 1) run.seconds = 0;
      run.encode(pixels);
    }
  }
  Json result = {{"threads", torch::get_num_threads()},
                 {"batch", options.batch},
                 {"image_size", options.image_size},
                 {"products", products_name(products())}};
  const TowerRun& reference = runs.front();
  for (TowerRun& run : runs) {
    run.multiply(options.batch * (reference.features.size(1) + 1));
    result["seconds_per_image"][run.name] = run.seconds / options.batch;
    result["operations_per_second"][run.name] = run.operations_per_second;
    if (run.name == reference.name) continue;
    result["ratio"][run.name] = reference.seconds / run.seconds;
    result["largest_difference"][run.name] =
        ((run.features - reference.features).abs().max() / reference.features.abs().max()).item<double>();
  }
  return result;
}

Json bench_kernels(const BenchKernelsOptions& options) {
  if (options.threads > 0) torch::set_num_threads(options.threads);
  torch::manual_seed(0);
  const torch::Tensor input = torch::randn({options.batch, options.side, options.side, options.inputs});
  const double fp32 = gemm_rate(torch::kFloat32), bf16 = gemm_rate(torch::kBFloat16);
  Json result = {{"threads", torch::get_num_threads()},
                 {"instruction_set", kernels::instruction_set()},
                 {"gemm", {{"fp32", fp32}, {"bf16", bf16}}},
                 {"taken", deform_kernels_name(deform_kernels())},
                 {"deformable", Json::array()}};
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    for (const DeformKernels by : {DeformKernels::columns, DeformKernels::fused}) {
      if (by == DeformKernels::fused && !fused_deform_available(precision)) continue;
      for (Json& entry : deformable(options, input, precision, precision == Precision::bf16 ? bf16 : fp32, by)) {
        result["deformable"].push_back(std::move(entry));
      }
    }
  }
  add_summed(options, input, result);
  return result;
}

}  // namespace filo
