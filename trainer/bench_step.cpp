#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <memory>

#include "base/random.hpp"
#include "model/systems/system.hpp"
#include "settings/descriptions.hpp"
#include "trainer/benchmarks.hpp"
#include "trainer/optimizer.hpp"

namespace filo {
namespace {

class Stopwatch {
 public:
  double lap() {  // seconds since the last lap
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    return seconds;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

ImageBatch random_features(const ModelSettings& settings, const ClipConfig& clip, const BenchStepOptions& options) {
  const VisionOptions wanted = wanted_features(settings);
  const std::int64_t side = settings.image_size / clip.patch;
  const auto patches = [&] { return torch::randn({options.batch, side * side, clip.vision.width}); };
  ImageBatch batch;
  batch.global = torch::randn({options.batch, clip.projection});
  for (const int layer : wanted.layers) batch.qkv[layer] = patches();
  for (const int layer : wanted.layers)
    if (layer >= wanted.vv_from) batch.vv[layer] = patches();
  batch.classes.assign(static_cast<std::size_t>(options.batch), options.class_name);
  return batch;
}

// Largest resident memory since the last reset_peak_rss(), or since the start where the system cannot reset it.
std::int64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

void reset_peak_rss() { std::ofstream("/proc/self/clear_refs") << "5"; }

// Of one step.
struct StepProfile {
  std::map<std::string, double> seconds;         // by part
  std::map<std::string, std::int64_t> peak_rss;  // bytes while the part ran
  double total() const {
    double sum = 0;
    for (const auto& [part, time] : seconds) sum += time;
    return sum;
  }
};

StepProfile run_step(const System& system, const TrainingPhase& phase, AdamW& optimizer, const ImageBatch& batch,
                     const torch::Tensor& masks, Precision precision) {
  StepProfile profile;
  Stopwatch watch;
  reset_peak_rss();
  const auto part_ended = [&](const std::string& part) {
    profile.seconds[part] += watch.lap();
    profile.peak_rss[part] = std::max(profile.peak_rss[part], peak_rss_bytes());
    reset_peak_rss();
  };
  const TrainingOptions options{.precision = precision, .part_ended = part_ended};
  const torch::Tensor loss = [&] {  // the maps themselves are not needed on the way back
    return system.losses(phase, system.train_forward(phase, batch, options), masks, {}).total;
  }();
  part_ended("decoder_forward");  // its second half: the loss
  loss.backward();
  part_ended("backward");
  TensorMap gradients;
  for (const auto& [name, parameter] : system.parameters()) {
    if (!parameter.grad().defined()) continue;
    gradients[name] = parameter.grad();
    parameter.mutable_grad() = torch::Tensor();
  }
  optimizer.step(gradients);
  part_ended("optimizer");
  return profile;
}

}  // namespace

Json bench_step(const BenchStepOptions& options) {
  if (options.threads > 0) torch::set_num_threads(options.threads);
  at::globalContext().setFlushDenormal(true);  // as in training (trainer/device.cpp)
  const ModelSettings settings = load_model_settings(options.spec);
  const Descriptions descriptions = descriptions_named(settings.prompts.descriptions, {options.class_name});
  const auto clip = load_clip(settings, options.clip, torch::kCPU, ClipTowers::text);  // as training does
  const auto system = make_system(settings, descriptions, clip, 0);
  const TrainingPhase phase = system->training_phases({}).front();

  torch::manual_seed(0);
  const ImageBatch batch = random_features(settings, clip->config(), options);
  const torch::Tensor masks =
      (torch::rand({options.batch, settings.image_size, settings.image_size}) < 0.05).to(torch::kFloat32);
  AdamW optimizer(system->parameters(), phase.groups);
  std::int64_t peak = peak_rss_bytes();  // so far: loading
  run_step(*system, phase, optimizer, batch, masks, options.precision);
  StepProfile best;
  for (int step = 0; step < options.steps; ++step) {
    const StepProfile profile = run_step(*system, phase, optimizer, batch, masks, options.precision);
    for (const auto& [part, bytes] : profile.peak_rss) peak = std::max(peak, bytes);
    if (step == 0 || profile.total() < best.total()) best = profile;
  }
  Json seconds = {{"total", best.total() / options.batch}};
  for (const auto& [part, time] : best.seconds) seconds[part] = time / options.batch;
  return {{"profile", to_json(settings).at("profile")},
          {"class", options.class_name},
          {"batch", options.batch},
          {"dtype", options.precision == Precision::bf16 ? "bf16" : "fp32"},
          {"threads", torch::get_num_threads()},
          {"prompts", system->learnable_prompts(options.class_name)},
          {"seconds_per_image", seconds},
          {"peak_rss_bytes", peak},
          {"peak_rss_bytes_by_part", best.peak_rss}};
}

}  // namespace filo
