// probe init, probe forward: the learnable parameters, and the whole model on given pixels.
#include <cmath>
#include <filesystem>
#include <memory>

#include "app/worker/probe.hpp"
#include "base/json.hpp"
#include "model/systems/system.hpp"

namespace filo {
namespace {

struct InitOptions {
  std::string model, spec, out;
  std::uint64_t seed = 0;
};

int probe_init(const InitOptions& options) {
  const auto settings = load_model_settings(options.spec);
  const auto clip = read_input([&] { return load_clip(settings, options.model); });
  save_tensors(options.out, make_system(settings, generic_descriptions({}), clip, options.seed)->parameters());
  return 0;
}

struct ForwardProbe {
  std::string model, spec, params, pixels, class_name, boxes, memory, mask, out;
  bool gradients = false;
  bool training = false;
  bool patches_only = false;
};

torch::Tensor read_pixels(const ForwardProbe& options, int image_size) {
  const torch::Tensor pixels = expect_tensor(load_tensors(options.pixels), "pixels", "probe: " + options.pixels);
  const std::string where = "probe: " + options.pixels + ": pixels";
  expect_shape(pixels, {-1, 3, image_size, image_size}, where);
  if (pixels.size(0) < 1) throw UsageError(where, "no image, expected at least one");
  if (!pixels.is_floating_point())
    throw UsageError(where, std::string("dtype ") + c10::toString(pixels.scalar_type()) + ", expected F32");
  expect_finite(pixels, where);
  return pixels.to(torch::kFloat32);
}

// One list of boxes, or a list of B lists, in the images' order; or {IMAGE: [...]}, in the order of the names.
std::vector<std::vector<Box>> read_image_boxes(const std::string& path, std::size_t images) {
  const Json json = read_json(path);
  std::vector<std::vector<Box>> boxes;
  if (json.is_object()) {
    for (auto& [image, list] : boxes_from_json(json, path)) boxes.push_back(std::move(list));
  } else if (json.is_array() && !json.empty() && json[0].is_array()) {
    for (std::size_t i = 0; i < json.size(); ++i)
      boxes.push_back(box_list_from_json(json[i], path + "[" + std::to_string(i) + "]"));
  } else {
    boxes.push_back(box_list_from_json(json, path));
  }
  if (boxes.size() != images) {
    throw UsageError("probe: " + path, std::to_string(boxes.size()) + " lists of boxes, expected one for each of " +
                                           std::to_string(images) + " images");
  }
  return boxes;
}

FewShotMemory read_memory(const ForwardProbe& options, const ModelSettings& settings) {
  const std::string where = "probe: " + options.memory;
  const TensorMap tensors = load_tensors(options.memory);
  std::map<int, torch::Tensor> qkv;
  for (const int layer : settings.layers) {
    const std::string name = "qkv." + std::to_string(layer);
    const torch::Tensor& patches = expect_tensor(tensors, name, where);
    expect_shape(patches, {-1, -1, -1}, where + ": " + name);
    qkv[layer] = patches;
  }
  FewShotMemory memory;
  memory.add(options.class_name, qkv);
  return memory;
}

torch::Tensor read_mask(const std::string& path, std::int64_t images, int image_size) {
  const torch::Tensor mask = expect_tensor(load_tensors(path), "mask", "probe: " + path);
  const std::string where = "probe: " + path + ": mask";
  expect_shape(mask, {images, image_size, image_size}, where);
  const torch::Tensor values = mask.to(torch::kFloat32);
  if (!torch::logical_or(values == 0, values == 1).all().item<bool>()) throw UsageError(where, "expected 0 and 1 only");
  return values;
}

// Prompts that any image asked for, in order of their first appearance; and whether each image kept them.
void add_prompts(const ForwardOutput& output, TensorMap& tensors, std::map<std::string, std::string>& metadata) {
  std::map<std::string, std::size_t> column_of;
  std::vector<const Prompt*> prompts;
  for (const bool abnormal : {false, true}) {
    for (const auto& image : output.prompts) {
      for (const auto& match : image) {
        if (match.prompt.abnormal != abnormal) continue;
        if (column_of.try_emplace(match.prompt.text, prompts.size()).second) prompts.push_back(&match.prompt);
      }
    }
  }
  const auto images = static_cast<std::int64_t>(output.prompts.size());
  const auto columns = static_cast<std::int64_t>(prompts.size());
  torch::Tensor kept = torch::zeros({images, columns}, torch::kUInt8);
  Json described = Json::array();
  for (const Prompt* prompt : prompts) {
    described.push_back({{"text", prompt->text},
                         {"set", prompt->abnormal ? "abnormal" : "normal"},
                         {"family", prompt->family == PromptFamily::fixed ? "fixed" : "learnable"},
                         {"similarity", Json::array()}});
    for (std::int64_t image = 0; image < images; ++image) described.back()["similarity"].push_back(nullptr);
  }
  for (std::size_t image = 0; image < output.prompts.size(); ++image) {
    for (const auto& match : output.prompts[image]) {
      const std::size_t column = column_of.at(match.prompt.text);
      kept[static_cast<std::int64_t>(image)][static_cast<std::int64_t>(column)] = match.kept ? 1 : 0;
      described[column]["similarity"][image] = match.similarity;
    }
  }
  tensors["kept"] = kept;
  metadata["prompts"] = described.dump();
}

// The loss of each phase on the same pass, and the gradient of the first one's.
void add_losses(const ForwardProbe& options, const System& system, const ForwardOutput& output,
                const torch::Tensor& mask, TensorMap& tensors) {
  const torch::Tensor labels = (mask.flatten(1).amax(1) > 0).to(torch::kInt64);
  const std::vector<TrainingPhase> phases = system.training_phases({});
  for (const TrainingPhase& phase : phases) {
    const Losses losses = system.losses(phase, output, mask, labels);
    tensors["loss." + phase.loss] = losses.total;
    for (std::size_t i = 0; i < losses.terms.size(); ++i) tensors["loss." + phase.loss_terms[i]] = losses.terms[i];
  }
  if (!options.gradients) return;
  std::vector<std::string> names;
  torch::autograd::variable_list parameters;
  for (const auto& [name, parameter] : system.parameters()) {
    names.push_back(name);
    parameters.push_back(parameter);
  }
  const auto gradients = torch::autograd::grad({tensors.at("loss." + phases.front().loss)}, parameters, {}, false,
                                               false, /*allow_unused=*/true);
  for (std::size_t i = 0; i < names.size(); ++i) {
    tensors["grad." + names[i]] = gradients[i].defined() ? gradients[i] : torch::zeros_like(parameters[i]);
  }
}

ForwardOutput run_forward(const ForwardProbe& options, const System& system, const ImageBatch& batch) {
  if (options.training) return system.train_forward(system.training_phases({}).front(), batch);
  FewShotMemory memory;
  TestingOptions testing;
  if (!options.memory.empty()) {
    memory = read_input([&] { return read_memory(options, system.settings()); });
    testing.memory = &memory;
  }
  testing.vision_language = !options.patches_only;
  return system.test_forward(batch, testing);
}

int probe_forward(const ForwardProbe& options) {
  if (options.gradients && options.mask.empty()) throw UsageError("probe: --gradients", "expected --mask with it");
  const auto settings = load_model_settings(options.spec);
  const auto clip = read_input([&] { return load_clip(settings, options.model); });
  const auto system =
      make_system(settings, descriptions_named(settings.prompts.descriptions, {options.class_name}), clip, 0);
  read_input([&] { return system->load_parameters(load_tensors(options.params), "probe: " + options.params); });

  const torch::Tensor pixels = read_input([&] { return read_pixels(options, settings.image_size); });
  const auto images = static_cast<std::size_t>(pixels.size(0));
  const VisionFeatures features = clip->encode_images(pixels, wanted_features(settings));
  ImageBatch batch;
  batch.global = features.global;
  batch.qkv = features.qkv;
  batch.vv = features.vv;
  batch.classes.assign(images, options.class_name);
  if (!options.boxes.empty()) batch.boxes = read_input([&] { return read_image_boxes(options.boxes, images); });
  const c10::AutoGradMode with_gradient(options.gradients);
  const ForwardOutput output = run_forward(options, *system, batch);

  TensorMap tensors = {{"text.normal", output.text_normal},
                       {"text.abnormal", output.text_abnormal},
                       {"maps.normal", output.maps_normal},
                       {"maps.abnormal", output.maps_abnormal},
                       {"logits", output.logits}};
  std::map<std::string, std::string> metadata;
  if (!options.training) {
    tensors["map"] = output.map;
    tensors["score"] = output.score;
    add_prompts(output, tensors, metadata);
  }
  if (!options.mask.empty()) {
    const auto mask =
        read_input([&] { return read_mask(options.mask, static_cast<std::int64_t>(images), settings.image_size); });
    add_losses(options, *system, output, mask, tensors);
  }
  for (auto& [name, tensor] : tensors) tensor = tensor.detach();
  save_tensors(options.out, tensors, metadata);
  return 0;
}

}  // namespace

void add_probe_init_command(CLI::App& probe) {
  add_command(probe, "init", "Learnable parameters, freshly initialised", [](CLI::App& command) -> Command {
    const auto options = std::make_shared<InitOptions>();
    command.add_option("--model", options->model, "Hugging Face CLIP folder")->required();
    command.add_option("--spec", options->spec, "YAML with the model: part of an experiment")->required();
    add_number(command, "--seed", options->seed, "Seed", std::uint64_t{0});
    command.add_option("--out", options->out, "Safetensors to write")->required();
    return [options] { return probe_init(*options); };
  });
}

void add_probe_forward_command(CLI::App& probe) {
  add_command(probe, "forward", "The whole model on given pixels", [](CLI::App& command) -> Command {
    const auto options = std::make_shared<ForwardProbe>();
    command.add_option("--model", options->model, "Hugging Face CLIP folder")->required();
    command.add_option("--spec", options->spec, "YAML with the model: part of an experiment")->required();
    command.add_option("--params", options->params, "Safetensors with every learnable parameter (probe init)")
        ->required();
    command.add_option("--pixels", options->pixels, "Safetensors with pixels [B, 3, S, S] F32, normalised")->required();
    command.add_option("--class", options->class_name, "The class of all images")->required();
    command.add_option("--boxes", options->boxes,
                       "JSON: boxes of each image, {\"box\": [x0, y0, x1, y1], \"score\": s}");
    command.add_option("--memory", options->memory, "Safetensors with qkv.LAYER [k, patches, C_v] of k normal images");
    command.add_flag("--patches-only", options->patches_only, "Patch matching with --memory alone, without any text");
    command.add_option("--mask", options->mask, "Safetensors with mask [B, S, S] of 0 and 1: adds the losses");
    command.add_flag("--gradients", options->gradients, "Adds the gradient of loss.local as grad.NAME");
    command.add_flag("--training", options->training,
                     "The forward pass of phase one: no adapter; filo-release: all nine positions");
    command.add_option("--out", options->out, "Safetensors to write")->required();
    return [options] { return probe_forward(*options); };
  });
}

}  // namespace filo
