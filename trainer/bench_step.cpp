#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <memory>

#include "base/random.hpp"
#include "model/systems/filo_model.hpp"
#include "settings/descriptions.hpp"
#include "trainer/benchmarks.hpp"
#include "trainer/losses.hpp"
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

ImageBatch random_features(const FiloModel& model, const BenchStepOptions& options) {
  const ModelSettings& settings = model.settings();
  const ClipConfig& clip = model.clip().config();
  const std::int64_t patches = static_cast<std::int64_t>(model.patches_per_side()) * model.patches_per_side();
  ImageBatch batch;
  batch.global = torch::randn({options.batch, clip.projection});
  for (const int layer : settings.layers) batch.qkv[layer] = torch::randn({options.batch, patches, clip.vision.width});
  for (const int layer : vv_layers(settings))
    batch.vv[layer] = torch::randn({options.batch, patches, clip.vision.width});
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

StepProfile run_step(const FiloModel& model, AdamW& optimizer, const ImageBatch& batch, const torch::Tensor& masks,
                     Precision precision) {
  ForwardOptions options;
  options.training = true;
  options.precision = precision;
  StepProfile profile;
  Stopwatch watch;
  reset_peak_rss();
  const auto part_ended = [&](const char* part) {
    profile.seconds[part] = watch.lap();
    profile.peak_rss[part] = peak_rss_bytes();
    reset_peak_rss();
  };
  const auto text = model.encode_text(batch, options);
  part_ended("text_forward");
  const torch::Tensor loss = [&] {  // the maps themselves are not needed on the way back
    const auto maps = model.stage_maps(batch, text, precision);
    return local_loss(maps.normal, maps.abnormal, masks, model.settings().profile).local;
  }();
  part_ended("decoder_forward");
  loss.backward();
  part_ended("backward");
  TensorMap gradients;
  for (const auto& [name, parameter] : model.parameters()) {
    if (!parameter.grad().defined()) continue;
    gradients[name] = parameter.grad();
    parameter.mutable_grad() = torch::Tensor();
  }
  optimizer.step(gradients);
  part_ended("optimizer");
  return profile;
}

// Learnable prompts that one image's text encoding runs: FiLo trains on all nine positions, the paper (no boxes) on
// center.
std::int64_t learnable_prompts(const ModelSettings& settings, const Descriptions& descriptions, const ClipModel& clip,
                               const std::string& class_name) {
  const PromptSet set =
      build_prompts(settings, descriptions, class_name, clip.tokenizer(), clip.config().context_length);
  std::vector<int> positions = {4};
  if (settings.profile == Profile::filo_release || settings.prompts.positions == PositionSource::all) {
    positions = {0, 1, 2, 3, 4, 5, 6, 7, 8};
  }
  std::vector<int> asked = set.normal();
  const std::vector<int> abnormal = set.abnormal(positions);
  asked.insert(asked.end(), abnormal.begin(), abnormal.end());
  return std::count_if(asked.begin(), asked.end(), [&](int index) {
    return set.prompts[static_cast<std::size_t>(index)].family == PromptFamily::learnable;
  });
}

}  // namespace

Json bench_step(const BenchStepOptions& options) {
  if (options.threads > 0) torch::set_num_threads(options.threads);
  at::globalContext().setFlushDenormal(true);  // as in training (trainer/device.cpp)
  const ModelSettings settings = load_model_settings(options.spec);
  const Descriptions descriptions = settings.prompts.descriptions == "none"
                                        ? generic_descriptions({options.class_name})
                                        : load_descriptions(settings.prompts.descriptions);
  const auto clip = ClipModel::load(options.clip, torch::kCPU, ClipTowers::text);  // as training does
  const FiloModel model(settings, descriptions, clip, 0);
  const std::int64_t prompts = learnable_prompts(settings, descriptions, *clip, options.class_name);

  torch::manual_seed(0);
  const ImageBatch batch = random_features(model, options);
  const torch::Tensor masks =
      (torch::rand({options.batch, settings.image_size, settings.image_size}) < 0.05).to(torch::kFloat32);
  AdamW optimizer(model.parameters(), {{model.parameter_group(ParameterGroup::prompts), 1e-3},
                                       {model.parameter_group(ParameterGroup::mdci), 1e-4}});
  std::int64_t peak = peak_rss_bytes();  // so far: loading
  run_step(model, optimizer, batch, masks, options.precision);
  StepProfile best;
  for (int step = 0; step < options.steps; ++step) {
    const StepProfile profile = run_step(model, optimizer, batch, masks, options.precision);
    for (const auto& [part, bytes] : profile.peak_rss) peak = std::max(peak, bytes);
    if (step == 0 || profile.total() < best.total()) best = profile;
  }
  Json seconds = {{"total", best.total() / options.batch}};
  for (const auto& [part, time] : best.seconds) seconds[part] = time / options.batch;
  return {{"profile", settings.profile == Profile::paper ? "paper" : "filo-release"},
          {"class", options.class_name},
          {"batch", options.batch},
          {"dtype", options.precision == Precision::bf16 ? "bf16" : "fp32"},
          {"threads", torch::get_num_threads()},
          {"prompts", prompts},
          {"seconds_per_image", seconds},
          {"peak_rss_bytes", peak},
          {"peak_rss_bytes_by_part", best.peak_rss}};
}

}  // namespace filo
