#include "app/worker/probe.hpp"

#include "app/worker/commands.hpp"
#include "base/json.hpp"
#include "model/systems/system.hpp"
#include "model/tensors.hpp"

namespace filo {
namespace {

std::vector<std::string> read_prompts(const std::string& path) {
  const std::string where = "probe: " + path;
  const Json json = read_json(path);
  if (!json.is_array() || json.empty()) throw UsageError(where, "expected a JSON list of at least one string");
  std::vector<std::string> prompts;
  for (const Json& prompt : json) {
    if (!prompt.is_string()) throw UsageError(where, "found " + prompt.dump() + ", expected a string");
    prompts.push_back(prompt.get<std::string>());
  }
  return prompts;
}

torch::Tensor read_pixels(const std::string& path) {
  const torch::Tensor pixels = expect_tensor(load_tensors(path), "pixels", "probe: " + path);
  const std::string where = "probe: " + path + ": pixels";
  if (!pixels.is_floating_point())
    throw UsageError(where, std::string("dtype ") + c10::toString(pixels.scalar_type()) + ", expected F32");
  expect_finite(pixels, where);
  return pixels.to(torch::kFloat32);
}

TensorMap named(const VisionFeatures& features) {
  TensorMap tensors = {{"global", features.global}};
  for (const auto& [layer, tensor] : features.qkv) tensors["qkv." + std::to_string(layer)] = tensor;
  for (const auto& [layer, tensor] : features.vv) tensors["vv." + std::to_string(layer)] = tensor;
  return tensors;
}

struct TextOptions {
  std::string model, prompts, out;
};

int probe_text(const TextOptions& options) {
  const torch::NoGradGuard no_grad;
  const auto prompts = read_input([&] { return read_prompts(options.prompts); });
  const auto model = read_input([&] { return ClipModel::load(options.model); });
  const torch::Tensor tokens = model->tokens(prompts);
  save_tensors(options.out, {{"tokens", tokens}, {"features", model->encode_text(tokens)}});
  return 0;
}

struct ImageOptions {
  std::string model, pixels, out;
  Profile profile = Profile::paper;
  std::vector<int> layers = VisionOptions().layers;
  int vv_from = VisionOptions().vv_from;
};

int probe_vision(const ImageOptions& options) {
  const VisionOptions wanted = wanted_features(options.profile, options.layers, options.vv_from);
  const auto pixels = read_input([&] { return read_pixels(options.pixels); });
  const auto model = read_input([&] { return ClipModel::load(options.model); });
  save_tensors(options.out, named(model->encode_images(pixels, wanted)));
  return 0;
}

void add_probe_text_command(CLI::App& probe) {
  add_command(probe, "text", "Tokens and features of prompts", [](CLI::App& command) -> Command {
    const auto options = std::make_shared<TextOptions>();
    command.add_option("--model", options->model, "Hugging Face CLIP folder")->required();
    command.add_option("--prompts", options->prompts, "JSON list of strings")->required();
    command.add_option("--out", options->out, "Safetensors to write: tokens [N, L] I64, features [N, C] F32")
        ->required();
    return [options] { return probe_text(*options); };
  });
}

void add_probe_vision_command(CLI::App& probe) {
  add_command(probe, "vision", "Features of images by both paths", [](CLI::App& command) -> Command {
    const auto options = std::make_shared<ImageOptions>();
    command.add_option("--model", options->model, "Hugging Face CLIP folder")->required();
    command.add_option("--pixels", options->pixels, "Safetensors with pixels [B, 3, S, S] F32, normalised")->required();
    add_choice<Profile>(command, "--profile", options->profile,
                        {{"paper", Profile::paper}, {"filo-release", Profile::filo_release}},
                        "paper or filo-release (default: paper)");
    command.add_option("--layers", options->layers, "Layers to write, 1-based")
        ->delimiter(',')
        ->check(whole_number(0))
        ->capture_default_str();
    add_number(command, "--vv-from", options->vv_from, "First layer of the V-V path", 0);
    command.add_option("--out", options->out, "Safetensors to write: global, qkv.LAYER, vv.LAYER, F32")->required();
    return [options] { return probe_vision(*options); };
  });
}

}  // namespace

void add_probe_command(CLI::App& program) {
  CLI::App& probe = add_command_family(program, "probe", "Run one part of the model on given tensors");
  add_probe_text_command(probe);
  add_probe_vision_command(probe);
  add_probe_init_command(probe);
  add_probe_forward_command(probe);
}

}  // namespace filo
