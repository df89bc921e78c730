#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <map>
#include <memory>

#include "cluster/resource_use.hpp"
#include "cluster/session.hpp"
#include "data/sampler.hpp"
#include "model/products.hpp"
#include "model/systems/system.hpp"
#include "settings/descriptions.hpp"
#include "settings/train_names.hpp"
#include "trainer/benchmarks.hpp"
#include "trainer/gradients.hpp"
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

// Of `images` images.
ImageBatch random_features(const ModelSettings& settings, const ClipConfig& clip, const std::string& class_name,
                           std::int64_t images) {
  const VisionOptions wanted = wanted_features(settings);
  const std::int64_t side = settings.image_size / clip.patch;
  const auto patches = [&] { return torch::randn({images, side * side, clip.vision.width}); };
  ImageBatch batch;
  batch.global = torch::randn({images, clip.projection});
  for (const int layer : wanted.layers) batch.qkv[layer] = patches();
  for (const int layer : wanted.layers)
    if (layer >= wanted.vv_from) batch.vv[layer] = patches();
  batch.classes.assign(static_cast<std::size_t>(images), class_name);
  return batch;
}

// Largest resident memory since the last reset_peak_rss(), or since the start where the system cannot reset it.
std::int64_t peak_rss_bytes() { return static_cast<std::int64_t>(resource_use_of_this_process().memory_bytes); }

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

// As a training's step (trainer/loop.cpp), without the reading.
StepProfile run_step(const System& system, const TrainingPhase& phase, GradientExchange& exchange, AdamW& optimizer,
                     Communicator& host, const ImageBatch& batch, const torch::Tensor& masks,
                     const BenchStepOptions& options) {
  host.barrier();
  StepProfile profile;
  Stopwatch watch;
  reset_peak_rss();
  const auto part_ended = [&](const std::string& part) {
    profile.seconds[part] += watch.lap();
    profile.peak_rss[part] = std::max(profile.peak_rss[part], peak_rss_bytes());
    reset_peak_rss();
  };
  exchange.begin();
  part_ended("zero_gradients");
  double sum = 0;
  if (const auto images = static_cast<double>(batch.classes.size()); images > 0) {
    const TrainingOptions training{.precision = options.precision, .part_ended = part_ended};
    const torch::Tensor loss = [&] {  // the maps themselves are not needed on the way back
      return system.losses(phase, system.train_forward(phase, batch, training), masks, {}).total;
    }();
    part_ended("decoder_forward");  // its second half: the loss
    exchange.expect_last_backward();
    (loss * (images / options.batch)).backward();
    sum = loss.item<double>() * images;
    part_ended("backward");
  }
  const TensorMap& gradients = exchange.finish();
  host.all_reduce_sum(&sum, 1);
  part_ended("all_reduce");
  const double norm = norm_of(gradients);
  part_ended("gradient_norm");
  if (std::isfinite(norm)) optimizer.step(gradients);
  part_ended("optimizer");
  return profile;
}

}  // namespace

Json bench_step(const BenchStepOptions& options) {
  const MpiSession session;
  if (options.threads > 0) torch::set_num_threads(options.threads);
  at::globalContext().setFlushDenormal(true);  // as in training (trainer/device.cpp)
  const auto host = make_mpi_communicator();
  const ModelSettings settings = load_model_settings(options.spec);
  const Descriptions descriptions = descriptions_named(settings.prompts.descriptions, {options.class_name});
  const auto clip = load_clip(settings, options.clip, torch::kCPU, ClipTowers::text);  // as training does
  const auto system = make_system(settings, descriptions, clip, 0);
  const TrainingPhase phase = system->training_phases({}).front();

  torch::manual_seed(static_cast<std::uint64_t>(host->rank()));
  const auto all_images = static_cast<std::size_t>(options.batch);
  const EpochSampler sampler({.count = all_images}, all_images, host->rank(), host->world_size(), 0);
  const auto images = static_cast<std::int64_t>(sampler.local_batch(0, 0).size());
  const ImageBatch batch = random_features(settings, clip->config(), options.class_name, images);
  const torch::Tensor masks =
      (torch::rand({images, settings.image_size, settings.image_size}) < 0.05).to(torch::kFloat32);
  AdamW optimizer(system->parameters(), phase.groups);
  GradientExchange exchange(*host, system->parameters(), names_of(phase.groups), options.gradients);
  std::int64_t peak = peak_rss_bytes();  // so far: loading
  run_step(*system, phase, exchange, optimizer, *host, batch, masks, options);
  StepProfile best;
  for (int step = 0; step < options.steps; ++step) {
    const StepProfile profile = run_step(*system, phase, exchange, optimizer, *host, batch, masks, options);
    for (const auto& [part, bytes] : profile.peak_rss) peak = std::max(peak, bytes);
    if (step == 0 || profile.total() < best.total()) best = profile;
  }
  std::int64_t gradient_bytes = 0;
  for (const std::string& name : names_of(phase.groups)) gradient_bytes += 4 * system->parameters().at(name).numel();
  Json seconds = {{"total", best.total() / options.batch}};
  for (const auto& [part, time] : best.seconds) seconds[part] = time / options.batch;
  host->barrier();
  return {{"profile", to_json(settings).at("profile")},
          {"class", options.class_name},
          {"batch", options.batch},
          {"ranks", host->world_size()},
          {"rank", host->rank()},
          {"dtype", precision_names.name(options.precision)},
          {"gradients", precision_names.name(options.gradients)},
          {"gradient_bytes", gradient_bytes},
          {"threads", torch::get_num_threads()},
          {"products", products_name(products_of_training())},
          {"prompts", system->learnable_prompts(options.class_name)},
          {"seconds_per_image", seconds},
          {"peak_rss_bytes", peak},
          {"peak_rss_bytes_by_part", best.peak_rss}};
}

}  // namespace filo
