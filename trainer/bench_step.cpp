#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "base/random.hpp"
#include "model/filo_model.hpp"
#include "settings/descriptions.hpp"
#include "trainer/bench.hpp"
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

struct StepTimes {
  double text_forward = 0, decoder_forward = 0, backward = 0, optimizer = 0;
  double total() const { return text_forward + decoder_forward + backward + optimizer; }
};

StepTimes run_step(const FiloModel& model, AdamW& optimizer, const ImageBatch& batch, const torch::Tensor& masks,
                   Precision precision) {
  ForwardOptions options;
  options.training = true;
  options.precision = precision;
  StepTimes times;
  Stopwatch watch;
  const auto text = model.encode_text(batch, options);
  times.text_forward = watch.lap();
  const auto maps = model.stage_maps(batch, text, precision);
  const LocalLoss loss = local_loss(maps.normal, maps.abnormal, masks, model.settings().profile);
  times.decoder_forward = watch.lap();
  loss.local.backward();
  times.backward = watch.lap();
  TensorMap gradients;
  for (const auto& [name, parameter] : model.parameters()) {
    if (!parameter.grad().defined()) continue;
    gradients[name] = parameter.grad();
    parameter.mutable_grad() = torch::Tensor();
  }
  optimizer.step(gradients);
  times.optimizer = watch.lap();
  return times;
}

std::int64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
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
  run_step(model, optimizer, batch, masks, options.precision);
  StepTimes best;
  for (int step = 0; step < options.steps; ++step) {
    const StepTimes times = run_step(model, optimizer, batch, masks, options.precision);
    if (step == 0 || times.total() < best.total()) best = times;
  }
  const double images = options.batch;
  return {{"profile", settings.profile == Profile::paper ? "paper" : "filo-release"},
          {"class", options.class_name},
          {"batch", options.batch},
          {"dtype", options.precision == Precision::bf16 ? "bf16" : "fp32"},
          {"threads", torch::get_num_threads()},
          {"prompts", prompts},
          {"seconds_per_image",
           {{"text_forward", best.text_forward / images},
            {"decoder_forward", best.decoder_forward / images},
            {"backward", best.backward / images},
            {"optimizer", best.optimizer / images},
            {"total", best.total() / images}}},
          {"peak_rss_bytes", peak_rss_bytes()}};
}

}  // namespace filo
