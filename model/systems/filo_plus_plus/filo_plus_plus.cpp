#include "model/systems/filo_plus_plus/filo_plus_plus.hpp"

#include <algorithm>
#include <set>

#include "base/error.hpp"
#include "model/layers/equations.hpp"
#include "model/layers/losses.hpp"
#include "model/layers/mdci.hpp"
#include "model/products.hpp"
#include "model/systems/clip_stages.hpp"
#include "model/systems/prompt_encoder.hpp"

namespace filo {
namespace {

constexpr double temperature = 0.07;
constexpr auto main_phase = "main";
constexpr auto adapter_phase = "adapter";

std::string linear_name(int layer, const char* what) { return "linear." + std::to_string(layer) + "." + what; }

// "mdci.12.3x3.weight", and from the second kernel of a shape on "mdci.12.3x3-2.weight".
std::string kernel_name(const ModelSettings& settings, int layer, std::size_t j, const char* what) {
  const auto& kernels = settings.mdci.kernels;
  const auto same = std::count(kernels.begin(), kernels.begin() + static_cast<std::ptrdiff_t>(j), kernels[j]);
  return "mdci." + std::to_string(layer) + "." + std::to_string(kernels[j][0]) + "x" + std::to_string(kernels[j][1]) +
         (same == 0 ? "" : "-" + std::to_string(same + 1)) + "." + what;
}

// Offsets and masks start at zero, so that a fresh deformable kernel is a plain one.
void add_kernel(ParameterInitializer& add, const ModelSettings& settings, const ClipConfig& clip, int layer,
                std::size_t j) {
  const auto name = [&](const char* what) { return kernel_name(settings, layer, j, what); };
  const std::int64_t height = settings.mdci.kernels[j][0], width = settings.mdci.kernels[j][1], taps = height * width;
  const std::int64_t in = clip.vision.width, out = clip.projection;
  add.uniform(name("weight"), {out, in, height, width}, in * taps);
  if (!settings.mdci.deformable) return;
  add.zero(name("offset.weight"), {2 * taps, in, height, width});
  add.zero(name("offset.bias"), {2 * taps});
  if (!settings.mdci.modulated) return;
  add.zero(name("mask.weight"), {taps, in, height, width});
  add.zero(name("mask.bias"), {taps});
}

TensorMap initial_parameters(const ModelSettings& settings, const ClipModel& clip, std::uint64_t seed) {
  ParameterInitializer add(seed, clip.device());
  const ClipConfig& sizes = clip.config();
  for (const char* learner : {"prompts.normal", "prompts.abnormal"})
    add_prompt_learner(add, learner, "vectors", settings.prompts, sizes);
  const std::int64_t patch_width = sizes.vision.width, width = sizes.projection;
  const std::int64_t bottleneck = std::max(1, sizes.projection / 2);
  for (const int layer : settings.layers) {
    add.uniform(linear_name(layer, "weight"), {width, patch_width}, patch_width);
    add.uniform(linear_name(layer, "bias"), {width}, patch_width);
  }
  for (const int layer : vv_layers(settings))
    for (std::size_t j = 0; j < settings.mdci.kernels.size(); ++j) add_kernel(add, settings, sizes, layer, j);
  add.uniform("adapter.linear1.weight", {bottleneck, width}, width);
  add.uniform("adapter.linear2.weight", {width, bottleneck}, bottleneck);
  return add.take();
}

std::vector<int> positions_of_boxes(const std::vector<Box>& boxes) {
  std::set<int> positions;
  for (const Box& box : cut_to_image(boxes)) positions.insert(position_of(box));
  if (positions.empty()) return {center_position};
  return {positions.begin(), positions.end()};
}

class FiloPlusPlus final : public System {
 public:
  FiloPlusPlus(const ModelSettings& settings, const Descriptions& descriptions, std::shared_ptr<const ClipModel> clip,
               std::uint64_t seed)
      : System(settings, initial_parameters(settings, *clip, seed)),
        clip_(std::move(clip)),
        prompts_(settings.prompts, descriptions, clip_),
        normal_learner_(prompt_learner(parameters(), "prompts.normal", "vectors")),
        abnormal_learner_(prompt_learner(parameters(), "prompts.abnormal", "vectors")) {}

  std::vector<std::string> stages() const override { return stage_names(settings()); }

  std::vector<TrainingPhase> training_phases(const TrainSettings& settings) const override {
    TrainingPhase main;
    main.name = main_phase;
    main.epochs = settings.main_epochs;
    main.groups = {{names_with_prefix(parameters(), {"prompts."}), settings.learning_rate_prompts},
                   {names_with_prefix(parameters(), {"linear.", "mdci."}), settings.learning_rate_mdci}};
    main.loss = "local";
    main.loss_terms = {"focal", "dice"};
    TrainingPhase adapter;
    adapter.name = adapter_phase;
    adapter.epochs = settings.adapter_epochs;
    adapter.groups = {{names_with_prefix(parameters(), {"adapter."}), settings.learning_rate_adapter}};
    adapter.loss = "global";
    adapter.patches = false;
    adapter.frozen_width = 2 * clip_->config().projection;  // T_n, T_a
    return {main, adapter};
  }

  FrozenVectors frozen_vectors(const TrainingPhase& phase) const override {
    if (phase.frozen_width == 0) return System::frozen_vectors(phase);
    return [this, held = std::make_shared<PromptFeatures>()](const ImageBatch& batch) {
      const torch::NoGradGuard no_grad;
      const TextFeatures text = encode_text(batch, {.held = held.get()});
      return torch::cat({text.normal, text.abnormal}, 1);
    };
  }

  ForwardOutput train_forward(const TrainingPhase& phase, const ImageBatch& batch,
                              const TrainingOptions& options) const override {
    return phase.name == adapter_phase ? train_adapter(batch, options) : train_main(batch, options);
  }

  Losses losses(const TrainingPhase& phase, const ForwardOutput& output, const torch::Tensor& masks,
                const torch::Tensor& labels) const override {
    if (phase.name == adapter_phase) return {global_loss(output.logits, labels), {}};
    const LocalLoss loss = local_loss(output.maps_normal, output.maps_abnormal, masks, {focal_loss, dice_loss});
    return {loss.local, {loss.focal, loss.dice}};
  }

  ForwardOutput test_forward(const ImageBatch& batch, const TestingOptions& options) const override;

  std::size_t learnable_prompts(const std::string& class_name) const override {
    const bool all = settings().prompts.positions == PositionSource::all;
    return prompts_.learnable_prompts(class_name, all ? every_position() : std::vector<int>{center_position});
  }

 private:
  struct TextOptions {
    Precision precision = Precision::fp32;
    bool matches = false;
    PromptFeatures* held = nullptr;  // as PromptEncoder::encode() takes it
  };
  ForwardOutput train_main(const ImageBatch& batch, const TrainingOptions& options) const;
  ForwardOutput train_adapter(const ImageBatch& batch, const TrainingOptions& options) const;
  std::vector<std::vector<int>> positions(const ImageBatch& batch) const;
  TextFeatures encode_text(const ImageBatch& batch, const TextOptions& options) const;
  torch::Tensor adapted(const torch::Tensor& global) const;
  void add_stage_maps(const ImageBatch& batch, Precision precision, ForwardOutput& output) const;
  MdciKernel kernel(int layer, std::size_t j) const;
  torch::Tensor few_shot(const ImageBatch& batch, const FewShotMemory& memory) const;

  std::shared_ptr<const ClipModel> clip_;
  PromptEncoder prompts_;
  PromptLearner normal_learner_, abnormal_learner_;
};

// Phase one: G = G0, no adapter.
ForwardOutput FiloPlusPlus::train_main(const ImageBatch& batch, const TrainingOptions& options) const {
  const auto ended = [&](const char* part) {
    if (options.part_ended) options.part_ended(part);
  };
  ForwardOutput output;
  const TextFeatures text = encode_text(batch, {.precision = options.precision});
  output.text_normal = text.normal;
  output.text_abnormal = text.abnormal;
  ended("text_forward");
  output.logits = text_products(batch.global, text.normal, text.abnormal) / temperature;
  add_stage_maps(batch, options.precision, output);
  ended("decoder_forward");
  return output;
}

// Phase two: the adapter alone; no gradient reaches the texts.
ForwardOutput FiloPlusPlus::train_adapter(const ImageBatch& batch, const TrainingOptions& options) const {
  ForwardOutput output;
  if (batch.frozen.defined()) {
    const std::int64_t width = batch.frozen.size(1) / 2;
    output.text_normal = batch.frozen.narrow(1, 0, width);
    output.text_abnormal = batch.frozen.narrow(1, width, width);
  } else {
    const torch::NoGradGuard no_grad;
    const TextFeatures text = encode_text(batch, {.precision = options.precision});
    output.text_normal = text.normal;
    output.text_abnormal = text.abnormal;
  }
  output.logits = text_products(adapted(batch.global), output.text_normal, output.text_abnormal) / temperature;
  return output;
}

ForwardOutput FiloPlusPlus::test_forward(const ImageBatch& batch, const TestingOptions& options) const {
  if (!options.vision_language && options.memory == nullptr)
    throw UsageError("model: evaluate.vision_language", "found false without a few-shot memory, expected shots");
  ForwardOutput output;
  TextFeatures text = encode_text(batch, {.matches = true});
  output.text_normal = text.normal;
  output.text_abnormal = text.abnormal;
  output.prompts = std::move(text.prompts);
  output.logits = text_products(adapted(batch.global), text.normal, text.abnormal) / temperature;
  add_stage_maps(batch, Precision::fp32, output);

  const double lambda = settings().boxes.suppression;
  const bool suppressed = !batch.boxes.empty() && lambda != 1;
  output.map = vision_language_map(output.maps_normal, output.maps_abnormal);
  if (suppressed) output.map = suppress_outside_boxes(output.map, batch.boxes, lambda);
  if (options.memory != nullptr) {
    torch::Tensor distances = few_shot(batch, *options.memory);
    if (suppressed) distances = suppress_outside_boxes(distances, batch.boxes, lambda);
    output.map = options.vision_language ? (output.map + distances) / 2 : distances;
  }
  output.map = gaussian_filter(output.map, options.gaussian_sigma);
  output.score = options.vision_language ? global_score(output.logits, output.map) : output.map.flatten(1).amax(1);
  return output;
}

// The regions of the centres of all boxes, in training and testing alike.
std::vector<std::vector<int>> FiloPlusPlus::positions(const ImageBatch& batch) const {
  std::vector<std::vector<int>> positions;
  for (std::size_t image = 0; image < batch.classes.size(); ++image) {
    positions.push_back(settings().prompts.positions == PositionSource::all ? every_position()
                        : batch.boxes.empty()                               ? std::vector<int>{center_position}
                                                                            : positions_of_boxes(batch.boxes[image]));
  }
  return positions;
}

// Prompts are compared with G0 and not with the adapter's G, so that T_n and T_a do not depend on the adapter.
TextFeatures FiloPlusPlus::encode_text(const ImageBatch& batch, const TextOptions& options) const {
  expect_batch(batch, clip_->config());
  const torch::Tensor unit_global = normalized(batch.global);
  const torch::Tensor vectors = learnable_vectors(normal_learner_, abnormal_learner_, unit_global);
  const EncodedPrompts encoded =
      prompts_.encode(batch.classes, positions(batch), vectors, options.precision, options.held);
  return mean_text_features(encoded, unit_global, {.filter = settings().prompts.filter, .matches = options.matches});
}

torch::Tensor FiloPlusPlus::adapted(const torch::Tensor& global) const {
  return adapter(global, parameter("adapter.linear1.weight"), parameter("adapter.linear2.weight"));
}

// Equation 2 for every stage.
void FiloPlusPlus::add_stage_maps(const ImageBatch& batch, Precision precision, ForwardOutput& output) const {
  const std::int64_t images = batch.global.size(0);
  const int size = settings().image_size;
  std::vector<torch::Tensor> maps;  // each [B, 2, S, S]
  for (const int layer : settings().layers) {
    const torch::Tensor patches = stage_patches(batch.qkv, "qkv", layer, images, settings(), clip_->config());
    const torch::Tensor aligned =
        linear(patches, parameter(linear_name(layer, "weight")), parameter(linear_name(layer, "bias")), precision);
    maps.push_back(stage_map({comparison(aligned, output.text_normal, output.text_abnormal)}, size));
  }
  for (const int layer : vv_layers(settings())) {
    const torch::Tensor patches = stage_patches(batch.vv, "vv", layer, images, settings(), clip_->config());
    std::vector<torch::Tensor> comparisons;
    for (std::size_t j = 0; j < settings().mdci.kernels.size(); ++j) {
      const torch::Tensor convolved = apply_kernel(kernel(layer, j), patches, precision);
      comparisons.push_back(comparison(convolved, output.text_normal, output.text_abnormal));
    }
    maps.push_back(stage_map(comparisons, size));
  }
  const torch::Tensor all = torch::stack(maps, 1);  // [B, stages, 2, S, S]
  output.maps_normal = all.select(2, 0);
  output.maps_abnormal = all.select(2, 1);
}

MdciKernel FiloPlusPlus::kernel(int layer, std::size_t j) const {
  const auto tensor = [&](const char* what) {
    const auto found = parameters().find(kernel_name(settings(), layer, j, what));
    return found == parameters().end() ? torch::Tensor() : found->second;
  };
  return {tensor("weight"), tensor("offset.weight"), tensor("offset.bias"), tensor("mask.weight"), tensor("mask.bias")};
}

// Equations 5 and 6.
torch::Tensor FiloPlusPlus::few_shot(const ImageBatch& batch, const FewShotMemory& memory) const {
  std::vector<torch::Tensor> stages;
  for (const int layer : settings().layers) {
    const torch::Tensor patches =
        stage_patches(batch.qkv, "qkv", layer, batch.global.size(0), settings(), clip_->config());
    std::vector<torch::Tensor> distances;
    for (std::size_t image = 0; image < batch.classes.size(); ++image)
      distances.push_back(memory.distances(batch.classes[image], layer, patches[static_cast<std::int64_t>(image)]));
    stages.push_back(torch::stack(distances));
  }
  return few_shot_map(stages, settings().image_size);
}

}  // namespace

VisionOptions filo_plus_plus_features(const std::vector<int>& layers, int vv_from) {
  return {.layers = layers, .vv_from = vv_from};
}

std::unique_ptr<System> make_filo_plus_plus(const ModelSettings& settings, const Descriptions& descriptions,
                                            std::shared_ptr<const ClipModel> clip, std::uint64_t seed) {
  expect_model_settings(settings, clip->config());
  return std::make_unique<FiloPlusPlus>(settings, descriptions, std::move(clip), seed);
}

}  // namespace filo
