#include "model/systems/filo_release/filo_release.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.hpp"
#include "model/layers/equations.hpp"
#include "model/layers/losses.hpp"
#include "model/layers/summed_conv.hpp"
#include "model/products.hpp"
#include "model/systems/clip_stages.hpp"
#include "model/systems/filo_release/boxes.hpp"
#include "model/systems/prompt_encoder.hpp"

namespace filo {
namespace {

constexpr double temperature = 0.07;
constexpr auto main_phase = "main";
constexpr auto adapter_phase = "adapter";

std::string linear_name(std::size_t stage, const char* what) {
  return "decoder_linear.fc." + std::to_string(stage) + "." + what;
}

std::string kernel_name(const std::array<int, 2>& shape, std::size_t vv_stage, const char* what) {
  return "decoder_cov.fc_" + std::to_string(shape[0]) + std::to_string(shape[1]) + "." + std::to_string(vv_stage) +
         "." + what;
}

TensorMap initial_parameters(const ModelSettings& settings, const ClipModel& clip, std::uint64_t seed) {
  ParameterInitializer add(seed, clip.device());
  const ClipConfig& sizes = clip.config();
  for (const char* learner : {"normal_prompt_learner", "abnormal_prompt_learner"})
    add_prompt_learner(add, learner, "ctx", settings.prompts, sizes);
  const std::int64_t patch_width = sizes.vision.width, width = sizes.projection;
  const std::int64_t bottleneck = std::max(1, sizes.projection / 2);
  for (std::size_t stage = 0; stage < settings.layers.size(); ++stage) {
    add.uniform(linear_name(stage, "weight"), {width, patch_width}, patch_width);
    add.uniform(linear_name(stage, "bias"), {width}, patch_width);
  }
  for (std::size_t stage = 0; stage < vv_layers(settings).size(); ++stage) {
    for (const auto& shape : settings.mdci.kernels) {
      const std::int64_t fan_in = patch_width * shape[0] * shape[1];
      add.uniform(kernel_name(shape, stage, "weight"), {width, patch_width, shape[0], shape[1]}, fan_in);
      add.uniform(kernel_name(shape, stage, "bias"), {width}, fan_in);
    }
  }
  add.uniform("adapter.fc.0.weight", {bottleneck, width}, width);
  add.uniform("adapter.fc.2.weight", {width, bottleneck}, bottleneck);
  return add.take();
}

PromptSettings without_fixed_prompts(PromptSettings settings) {
  settings.fixed_template = false;
  return settings;
}

class FiloRelease final : public System {
 public:
  FiloRelease(const ModelSettings& settings, const Descriptions& descriptions, std::shared_ptr<const ClipModel> clip,
              std::uint64_t seed)
      : System(settings, initial_parameters(settings, *clip, seed)),
        clip_(std::move(clip)),
        descriptions_(descriptions),
        prompts_(without_fixed_prompts(settings.prompts), descriptions, clip_),
        normal_learner_(prompt_learner(parameters(), "normal_prompt_learner", "ctx")),
        abnormal_learner_(prompt_learner(parameters(), "abnormal_prompt_learner", "ctx")) {}

  std::vector<std::string> stages() const override { return stage_names(settings()); }

  std::vector<TrainingPhase> training_phases(const TrainSettings& settings) const override {
    TrainingPhase main;
    main.name = main_phase;
    main.epochs = settings.main_epochs;
    main.groups = {{names_with_prefix(parameters(), {"normal_prompt_learner.", "abnormal_prompt_learner."}),
                    settings.learning_rate_prompts},
                   {names_with_prefix(parameters(), {"decoder_linear.", "decoder_cov."}), settings.learning_rate_mdci}};
    main.loss = "local";
    main.loss_terms = {"focal", "dice"};
    TrainingPhase adapter;
    adapter.name = adapter_phase;
    adapter.epochs = settings.adapter_epochs;
    adapter.groups = {{names_with_prefix(parameters(), {"adapter."}), settings.learning_rate_adapter}};
    adapter.loss = "global";
    adapter.patches = false;
    return {main, adapter};
  }

  ForwardOutput train_forward(const TrainingPhase& phase, const ImageBatch& batch,
                              const TrainingOptions& options) const override {
    return phase.name == adapter_phase ? train_adapter(batch, options) : train_main(batch, options);
  }

  Losses losses(const TrainingPhase& phase, const ForwardOutput& output, const torch::Tensor& masks,
                const torch::Tensor& labels) const override {
    if (phase.name == adapter_phase) return {global_loss(output.logits, labels), {}};
    const LocalLoss loss =
        local_loss(output.maps_normal, output.maps_abnormal, masks, {filo_release_focal_loss, filo_release_dice_loss});
    return {loss.local, {loss.focal, loss.dice}};
  }

  ForwardOutput test_forward(const ImageBatch& batch, const TestingOptions& options) const override;

  std::size_t learnable_prompts(const std::string& class_name) const override {
    return prompts_.learnable_prompts(class_name, every_position());
  }

 private:
  using Positions = std::vector<std::vector<int>>;
  ForwardOutput train_main(const ImageBatch& batch, const TrainingOptions& options) const;
  ForwardOutput train_adapter(const ImageBatch& batch, const TrainingOptions& options) const;
  std::vector<std::vector<Box>> matching_boxes(const ImageBatch& batch) const;
  Positions testing_positions(const ImageBatch& batch, const std::vector<std::vector<Box>>& boxes) const;
  TextFeatures encode_text(const ImageBatch& batch, const torch::Tensor& global, const Positions& positions,
                           Precision precision, bool matches) const;
  torch::Tensor adapted(const torch::Tensor& global) const;
  void add_stage_maps(const ImageBatch& batch, Precision precision, ForwardOutput& output) const;
  torch::Tensor convolved(const torch::Tensor& patches, std::size_t vv_stage) const;

  std::shared_ptr<const ClipModel> clip_;
  Descriptions descriptions_;
  PromptEncoder prompts_;
  PromptLearner normal_learner_, abnormal_learner_;
};

// Phase one: no adapter, prompts at all nine positions.
ForwardOutput FiloRelease::train_main(const ImageBatch& batch, const TrainingOptions& options) const {
  const auto ended = [&](const char* part) {
    if (options.part_ended) options.part_ended(part);
  };
  ForwardOutput output;
  const Positions all(batch.classes.size(), every_position());
  const TextFeatures text = encode_text(batch, batch.global, all, options.precision, /*matches=*/false);
  output.text_normal = text.normal;
  output.text_abnormal = text.abnormal;
  ended("text_forward");
  output.logits = text_products(batch.global, text.normal, text.abnormal) / temperature;
  add_stage_maps(batch, options.precision, output);
  ended("decoder_forward");
  return output;
}

// Phase two: texts change with the adapter, through the meta nets, but no gradient reaches it that way.
ForwardOutput FiloRelease::train_adapter(const ImageBatch& batch, const TrainingOptions& options) const {
  ForwardOutput output;
  expect_batch(batch, clip_->config());
  const torch::Tensor global = adapted(batch.global);
  {
    const torch::NoGradGuard no_grad;
    const Positions all(batch.classes.size(), every_position());
    const TextFeatures text = encode_text(batch, global.detach(), all, options.precision, /*matches=*/false);
    output.text_normal = text.normal;
    output.text_abnormal = text.abnormal;
  }
  output.logits = text_products(global, output.text_normal, output.text_abnormal) / temperature;
  return output;
}

ForwardOutput FiloRelease::test_forward(const ImageBatch& batch, const TestingOptions& options) const {
  if (options.memory != nullptr)
    throw UsageError("model: evaluate.shots", "profile filo-release has no few-shot branch, expected shots: 0");
  if (!options.vision_language)
    throw UsageError("model: evaluate.vision_language", "found false without a few-shot memory, expected shots");
  expect_batch(batch, clip_->config());
  ForwardOutput output;
  const torch::Tensor global = adapted(batch.global);
  const std::vector<std::vector<Box>> boxes = matching_boxes(batch);
  TextFeatures text = encode_text(batch, global, testing_positions(batch, boxes), Precision::fp32, /*matches=*/true);
  output.text_normal = text.normal;
  output.text_abnormal = text.abnormal;
  output.prompts = std::move(text.prompts);
  output.logits = text_products(global, text.normal, text.abnormal) / temperature;
  add_stage_maps(batch, Precision::fp32, output);

  output.map = vision_language_map(output.maps_normal, output.maps_abnormal);
  output.map = filo_release_gaussian_filter(output.map, options.gaussian_sigma);
  output.score = (output.logits.select(1, 1) * temperature + output.map.flatten(1).amax(1)) / 2;
  const double lambda = settings().boxes.suppression;
  if (!boxes.empty() && lambda != 1) output.map = filo_release_suppress(output.map, boxes, lambda);
  return output;
}

// Empty without a source of boxes, as the batch's.
std::vector<std::vector<Box>> FiloRelease::matching_boxes(const ImageBatch& batch) const {
  std::vector<std::vector<Box>> boxes;
  for (std::size_t image = 0; image < batch.boxes.size(); ++image)
    boxes.push_back(filo_release_matches(batch.boxes[image], descriptions_.of(batch.classes[image]).phrases()));
  return boxes;
}

FiloRelease::Positions FiloRelease::testing_positions(const ImageBatch& batch,
                                                      const std::vector<std::vector<Box>>& boxes) const {
  Positions positions;
  for (std::size_t image = 0; image < batch.classes.size(); ++image)
    positions.push_back(
        settings().prompts.positions == PositionSource::all
            ? every_position()
            : filo_release_positions(boxes.empty() ? std::vector<Box>() : boxes[image], settings().image_size));
  return positions;
}

// `global` [B, C]: what the meta nets see and prompts are compared with.
TextFeatures FiloRelease::encode_text(const ImageBatch& batch, const torch::Tensor& global, const Positions& positions,
                                      Precision precision, bool matches) const {
  expect_batch(batch, clip_->config());
  const torch::Tensor unit_global = normalized(global);
  const torch::Tensor vectors = learnable_vectors(normal_learner_, abnormal_learner_, unit_global);
  const EncodedPrompts encoded = prompts_.encode(batch.classes, positions, vectors, precision);
  TextFeatures text = mean_text_features(encoded, unit_global, {.filter = false, .matches = matches});
  // FiLo divides the pair by its common norm, sqrt 2 for two vectors of length 1.
  text.normal = text.normal / std::sqrt(2.0);
  text.abnormal = text.abnormal / std::sqrt(2.0);
  return text;
}

torch::Tensor FiloRelease::adapted(const torch::Tensor& global) const {
  return adapter(global, parameter("adapter.fc.0.weight"), parameter("adapter.fc.2.weight"));
}

void FiloRelease::add_stage_maps(const ImageBatch& batch, Precision precision, ForwardOutput& output) const {
  const std::int64_t images = batch.global.size(0);
  const std::vector<int> vv = vv_layers(settings());
  std::vector<torch::Tensor> maps;  // each [B, 2, S, S]
  const auto compare = [&](const torch::Tensor& features) {
    maps.push_back(
        filo_release_stage_map(comparison(features, output.text_normal, output.text_abnormal), settings().image_size));
  };
  for (std::size_t stage = 0; stage < settings().layers.size(); ++stage) {
    const torch::Tensor patches =
        stage_patches(batch.qkv, "qkv", settings().layers[stage], images, settings(), clip_->config());
    compare(linear(patches, parameter(linear_name(stage, "weight")), parameter(linear_name(stage, "bias")), precision));
  }
  for (std::size_t stage = 0; stage < vv.size(); ++stage)
    compare(convolved(stage_patches(batch.vv, "vv", vv[stage], images, settings(), clip_->config()), stage));
  const torch::Tensor all = torch::stack(maps, 1);  // [B, stages, 2, S, S]
  output.maps_normal = all.select(2, 0);
  output.maps_abnormal = all.select(2, 1);
}

// The sum of the stage's convolutions: [B, P, C].
torch::Tensor FiloRelease::convolved(const torch::Tensor& patches, std::size_t vv_stage) const {
  std::vector<torch::Tensor> weights, biases;
  for (const auto& shape : settings().mdci.kernels) {
    weights.push_back(parameter(kernel_name(shape, vv_stage, "weight")));
    biases.push_back(parameter(kernel_name(shape, vv_stage, "bias")));
  }
  const std::int64_t side = settings().image_size / clip_->config().patch;
  const torch::Tensor grid = patches.contiguous().view({patches.size(0), side, side, patches.size(2)});
  return summed_conv2d(grid, weights, biases).flatten(1, 2);
}

void expect_release_settings(const ModelSettings& settings, const ClipConfig& clip) {
  expect_model_settings(settings, clip);
  if (settings.prompts.method != PromptMethod::cocoop || !settings.prompts.learnable_template)
    throw UsageError("model: prompts.method", "profile filo-release has learnable prompts of method cocoop only");
  const std::set<std::array<int, 2>> shapes(settings.mdci.kernels.begin(), settings.mdci.kernels.end());
  if (shapes.size() != settings.mdci.kernels.size())
    throw UsageError("model: mdci.kernels", "a shape twice, expected each once (filo-release)");
}

}  // namespace

VisionOptions filo_release_features(const std::vector<int>& layers, int vv_from) {
  return {.layers = layers, .vv_from = vv_from, .aliased = true};
}

std::unique_ptr<System> make_filo_release(const ModelSettings& settings, const Descriptions& descriptions,
                                          std::shared_ptr<const ClipModel> clip, std::uint64_t seed) {
  expect_release_settings(settings, clip->config());
  return std::make_unique<FiloRelease>(settings, descriptions, std::move(clip), seed);
}

}  // namespace filo
