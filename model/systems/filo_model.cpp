#include "model/systems/filo_model.hpp"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <set>

#include "base/error.hpp"
#include "model/layers/equations.hpp"
#include "model/layers/filter.hpp"
#include "model/layers/mdci.hpp"
#include "model/layers/summed_conv.hpp"
#include "model/text/prompt_tree.hpp"

namespace filo {
namespace {

constexpr double temperature = 0.07;
constexpr int center_position = 4;
constexpr int all_positions = 9;

torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias,
                     Precision precision) {
  if (precision == Precision::fp32) return torch::linear(x, weight, bias);
  return torch::linear(x.to(torch::kBFloat16), weight.to(torch::kBFloat16)).to(torch::kFloat32) + bias;
}

std::vector<int> every_position() {
  std::vector<int> positions;
  for (int i = 0; i < all_positions; ++i) positions.push_back(i);
  return positions;
}

std::vector<int> positions_of_boxes(const std::vector<Box>& boxes) {
  if (boxes.empty()) return {center_position};
  std::set<int> positions;
  for (const Box& box : boxes) positions.insert(position_of(box));
  return {positions.begin(), positions.end()};
}

// FiLo's thirds of an image are whole pixels, [0, S/3], [S/3 + 1, 2S/3 - 1], [2S/3, S - 1]: a centre between two of
// them is in none (-1).
int filo_release_third(float centre, int size) {
  const auto third = static_cast<float>(size / 3), two_thirds = static_cast<float>(2 * size / 3);
  if (centre >= 0 && centre <= third) return 0;
  if (centre >= third + 1 && centre <= two_thirds - 1) return 1;
  if (centre >= two_thirds && centre <= static_cast<float>(size - 1)) return 2;
  return -1;
}

// Of the best box, the last of equals, scores cut to two decimals. A centre in no region asks for all of them.
std::vector<int> filo_release_positions(const std::vector<Box>& boxes, int size) {
  const Box* best = nullptr;
  double best_score = 0;
  for (const Box& box : boxes) {
    const double score = std::floor(static_cast<double>(box.score) * 100) / 100;
    if (score >= best_score) {
      best = &box;
      best_score = score;
    }
  }
  if (best == nullptr) return {center_position};
  const auto pixels = static_cast<float>(size);
  const int column = filo_release_third((best->x0 * pixels + best->x1 * pixels) / 2, size);
  const int row = filo_release_third((best->y0 * pixels + best->y1 * pixels) / 2, size);
  if (column < 0 || row < 0) return every_position();
  return {row * 3 + column};
}

void expect_settings(const ModelSettings& settings, const ClipConfig& clip) {
  const auto fail = [](const std::string& key, const std::string& problem) {
    throw UsageError("model: " + key, problem);
  };
  if (settings.image_size <= 0 || settings.image_size % clip.patch != 0) {
    fail("image_size", std::to_string(settings.image_size) + ", expected a multiple of the patch, " +
                           std::to_string(clip.patch) + " pixels");
  }
  if (settings.layers.empty()) fail("layers", "none, expected at least one");
  std::set<int> seen;
  for (const int layer : settings.layers) {
    if (layer < 1 || layer > clip.vision.layers) {
      fail("layers", std::to_string(layer) + ", expected 1 to " + std::to_string(clip.vision.layers) +
                         ", the depth of the image tower");
    }
    if (!seen.insert(layer).second) fail("layers", std::to_string(layer) + " twice, expected each layer once");
  }
  if (settings.prompts.vectors < 1) {
    fail("prompts.vectors", std::to_string(settings.prompts.vectors) + ", expected at least 1");
  }
  for (const auto& [height, width] : settings.mdci.kernels) {
    if (height < 1 || width < 1 || height % 2 == 0 || width % 2 == 0) {
      fail("mdci.kernels", "[" + std::to_string(height) + ", " + std::to_string(width) + "], expected odd sizes");
    }
  }
  if (settings.profile == Profile::filo_release) {
    if (settings.prompts.method != PromptMethod::cocoop || !settings.prompts.learnable_template) {
      fail("prompts.method", "profile filo-release has learnable prompts of method cocoop only");
    }
    const std::set<std::array<int, 2>> shapes(settings.mdci.kernels.begin(), settings.mdci.kernels.end());
    if (shapes.size() != settings.mdci.kernels.size())
      fail("mdci.kernels", "a shape twice, expected each once (filo-release)");
  }
}

void expect_box(const Box& box, std::size_t image) {
  const bool in_order = box.x0 >= 0 && box.y0 >= 0 && box.x0 < box.x1 && box.y0 < box.y1 && box.x1 <= 1 && box.y1 <= 1;
  if (in_order) return;
  throw UsageError("model: image " + std::to_string(image) + ": box [" + std::to_string(box.x0) + ", " +
                       std::to_string(box.y0) + ", " + std::to_string(box.x1) + ", " + std::to_string(box.y1) + "]",
                   "outside the image or upside down, expected 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1");
}

// The prompts of one class, and the features of its fixed ones as far as they were asked for: frozen, so computed once.
struct ClassPrompts {
  PromptSet set;
  std::vector<int> normal;
  std::vector<torch::Tensor> fixed;  // per prompt [C] normalised, or undefined
};

// What one image asks for: normal prompts, then abnormal ones; and where each one's feature is.
struct AskedPrompts {
  std::shared_ptr<ClassPrompts> prompts;
  std::vector<int> index;
  std::size_t normal_count = 0;
  std::vector<std::int64_t> row;  // into the features of the batch
};

}  // namespace

struct FiloModel::Parts {
  ModelSettings settings;
  Descriptions descriptions;
  std::shared_ptr<const ClipModel> clip;
  ParameterNames names;
  LearnableParameters learnable;
  std::vector<int> vv;  // layers
  std::mutex mutex;     // over classes and the fixed features in them
  std::map<std::string, std::shared_ptr<ClassPrompts>> classes;

  Parts(const ModelSettings& model_settings, const Descriptions& model_descriptions,
        std::shared_ptr<const ClipModel> clip_model)
      : settings(model_settings),
        descriptions(model_descriptions),
        clip(std::move(clip_model)),
        names(model_settings),
        vv(vv_layers(model_settings)) {}

  bool release() const { return settings.profile == Profile::filo_release; }
  const torch::Tensor& parameter(const std::string& name) const { return learnable.tensors.at(name); }

  std::shared_ptr<ClassPrompts> prompts_of(const std::string& class_name);
  std::vector<int> positions(const ImageBatch& batch, std::size_t image, bool training) const;
  std::vector<AskedPrompts> ask(const ImageBatch& batch, bool training);
  torch::Tensor fixed_features(std::vector<AskedPrompts>& asked);
  torch::Tensor learnable_vectors(const torch::Tensor& unit_global) const;
  torch::Tensor learnable_features(std::vector<AskedPrompts>& asked, const torch::Tensor& unit_global,
                                   std::int64_t first_row, Precision precision) const;
  std::vector<std::int64_t> sequence(const Prompt& prompt, std::int64_t image, std::int64_t images) const;
  MdciKernel kernel(std::size_t vv_stage, std::size_t j) const;
  torch::Tensor vv_stage_map(std::size_t vv_stage, const torch::Tensor& patches, const TextFeatures& text,
                             Precision precision) const;
  void expect_batch(const ImageBatch& batch) const;
  torch::Tensor stage_features(const std::map<int, torch::Tensor>& features, int layer, const char* kind,
                               std::int64_t images) const;
};

std::shared_ptr<ClassPrompts> FiloModel::Parts::prompts_of(const std::string& class_name) {
  const std::lock_guard lock(mutex);
  auto& known = classes[class_name];
  if (!known) {
    auto made = std::make_shared<ClassPrompts>();
    made->set = build_prompts(settings, descriptions, class_name, clip->tokenizer(), clip->config().context_length);
    made->normal = made->set.normal();
    made->fixed.resize(made->set.prompts.size());
    known = std::move(made);
  }
  return known;
}

std::vector<int> FiloModel::Parts::positions(const ImageBatch& batch, std::size_t image, bool training) const {
  if (settings.prompts.positions == PositionSource::all || (release() && training)) return every_position();
  const std::vector<Box> boxes = batch.boxes.empty() ? std::vector<Box>() : batch.boxes[image];
  return release() ? filo_release_positions(boxes, settings.image_size) : positions_of_boxes(boxes);
}

std::vector<AskedPrompts> FiloModel::Parts::ask(const ImageBatch& batch, bool training) {
  std::vector<AskedPrompts> asked;
  for (std::size_t image = 0; image < batch.classes.size(); ++image) {
    AskedPrompts one;
    one.prompts = prompts_of(batch.classes[image]);
    one.index = one.prompts->normal;
    one.normal_count = one.index.size();
    const auto abnormal = one.prompts->set.abnormal(positions(batch, image, training));
    one.index.insert(one.index.end(), abnormal.begin(), abnormal.end());
    one.row.assign(one.index.size(), -1);
    asked.push_back(std::move(one));
  }
  return asked;
}

// Start token, learnable vectors, tokens, end token. Rows of the vectors: normal ones of all images, then abnormal
// ones.
std::vector<std::int64_t> FiloModel::Parts::sequence(const Prompt& prompt, std::int64_t image,
                                                     std::int64_t images) const {
  std::vector<std::int64_t> elements = {clip->tokenizer().start_token()};
  if (prompt.family == PromptFamily::learnable) {
    const std::int64_t vectors = settings.prompts.vectors;
    const std::int64_t first = ((prompt.abnormal ? images : 0) + image) * vectors;
    for (std::int64_t i = 0; i < vectors; ++i) elements.push_back(-1 - (first + i));
  }
  elements.insert(elements.end(), prompt.tokens.begin(), prompt.tokens.end());
  elements.push_back(clip->tokenizer().end_token());
  return elements;
}

// Normalised features of the fixed prompts that the batch asks for, [rows, C]; undefined when there is none.
torch::Tensor FiloModel::Parts::fixed_features(std::vector<AskedPrompts>& asked) {
  const std::lock_guard lock(mutex);
  std::vector<std::vector<std::int64_t>> sequences;
  std::vector<torch::Tensor*> places;
  std::set<const torch::Tensor*> wanted;
  const auto is_fixed = [](const AskedPrompts& one, int index) {
    return one.prompts->set.prompts[static_cast<std::size_t>(index)].family == PromptFamily::fixed;
  };
  for (auto& one : asked) {
    for (const int index : one.index) {
      torch::Tensor& held = one.prompts->fixed[static_cast<std::size_t>(index)];
      if (!is_fixed(one, index) || held.defined() || !wanted.insert(&held).second) continue;
      sequences.push_back(sequence(one.prompts->set.prompts[static_cast<std::size_t>(index)], 0, 1));
      places.push_back(&held);
    }
  }
  if (!sequences.empty()) {
    // What is held outlives this call's mode: a tensor made in inference mode could not take part in training later.
    const c10::InferenceMode ordinary_tensors(false);
    const torch::NoGradGuard frozen;
    const torch::Tensor features = normalized(encode_prompt_tree(clip->text(), PromptTree(sequences), {}));
    for (std::size_t i = 0; i < places.size(); ++i) *places[i] = features[static_cast<std::int64_t>(i)];
  }
  std::vector<torch::Tensor> rows;
  std::map<const torch::Tensor*, std::int64_t> row_of;
  for (auto& one : asked) {
    for (std::size_t i = 0; i < one.index.size(); ++i) {
      if (!is_fixed(one, one.index[i])) continue;
      const torch::Tensor& held = one.prompts->fixed[static_cast<std::size_t>(one.index[i])];
      const auto [found, added] = row_of.try_emplace(&held, static_cast<std::int64_t>(rows.size()));
      if (added) rows.push_back(held);
      one.row[i] = found->second;
    }
  }
  return rows.empty() ? torch::Tensor() : torch::stack(rows);
}

// The learnable rows in the order of sequence(): CoOp [2 n, D]; CoCoOp, where each image adds its meta nets' output, [2
// B n, D].
torch::Tensor FiloModel::Parts::learnable_vectors(const torch::Tensor& unit_global) const {
  std::vector<torch::Tensor> rows;
  for (const bool abnormal : {false, true}) {
    const torch::Tensor& vectors = parameter(names.vectors(abnormal));
    if (settings.prompts.method == PromptMethod::coop) {
      rows.push_back(vectors);
      continue;
    }
    const auto meta = [&](int layer, const torch::Tensor& x) {
      return torch::linear(x, parameter(names.meta_net(abnormal, layer, "weight")),
                           parameter(names.meta_net(abnormal, layer, "bias")));
    };
    const torch::Tensor shift = meta(2, torch::relu(meta(1, unit_global)));  // [B, D]
    rows.push_back((vectors.unsqueeze(0) + shift.unsqueeze(1)).flatten(0, 1));
  }
  return torch::cat(rows);
}

// Normalised features of the learnable prompts that the batch asks for; undefined when there is none.
torch::Tensor FiloModel::Parts::learnable_features(std::vector<AskedPrompts>& asked, const torch::Tensor& unit_global,
                                                   std::int64_t first_row, Precision precision) const {
  const bool per_image = settings.prompts.method == PromptMethod::cocoop;
  std::vector<std::vector<std::int64_t>> sequences;
  std::map<std::vector<std::int64_t>, std::int64_t> row_of;
  const auto images = per_image ? static_cast<std::int64_t>(asked.size()) : 1;
  for (std::size_t image = 0; image < asked.size(); ++image) {
    auto& one = asked[image];
    for (std::size_t i = 0; i < one.index.size(); ++i) {
      const Prompt& prompt = one.prompts->set.prompts[static_cast<std::size_t>(one.index[i])];
      if (prompt.family != PromptFamily::learnable) continue;
      auto elements = sequence(prompt, per_image ? static_cast<std::int64_t>(image) : 0, images);
      const auto [found, added] = row_of.try_emplace(elements, static_cast<std::int64_t>(sequences.size()));
      if (added) sequences.push_back(std::move(elements));
      one.row[i] = first_row + found->second;
    }
  }
  if (sequences.empty()) return {};
  return normalized(encode_prompt_tree(clip->text(), PromptTree(sequences), learnable_vectors(unit_global), precision));
}

MdciKernel FiloModel::Parts::kernel(std::size_t vv_stage, std::size_t j) const {
  const auto tensor = [&](const char* what) {
    const auto found = learnable.tensors.find(names.kernel(vv_stage, j, what));
    return found == learnable.tensors.end() ? torch::Tensor() : found->second;
  };
  return {tensor("weight"), tensor("offset.weight"), tensor("offset.bias"), tensor("mask.weight"), tensor("mask.bias")};
}

torch::Tensor FiloModel::Parts::vv_stage_map(std::size_t vv_stage, const torch::Tensor& patches,
                                             const TextFeatures& text, Precision precision) const {
  const std::size_t kernels = settings.mdci.kernels.size();
  if (release()) {
    std::vector<torch::Tensor> weights, biases;
    for (std::size_t j = 0; j < kernels; ++j) {
      weights.push_back(parameter(names.kernel(vv_stage, j, "weight")));
      biases.push_back(parameter(names.kernel(vv_stage, j, "bias")));
    }
    const std::int64_t side = settings.image_size / clip->config().patch;
    const torch::Tensor sum =
        summed_conv2d(patches.contiguous().view({patches.size(0), side, side, patches.size(2)}), weights, biases);
    return filo_release_stage_map(comparison(sum.flatten(1, 2), text.normal, text.abnormal), settings.image_size);
  }
  std::vector<torch::Tensor> comparisons;
  for (std::size_t j = 0; j < kernels; ++j) {
    comparisons.push_back(
        comparison(apply_kernel(kernel(vv_stage, j), patches, precision), text.normal, text.abnormal));
  }
  return stage_map(comparisons, settings.image_size);
}

void FiloModel::Parts::expect_batch(const ImageBatch& batch) const {
  const auto images = static_cast<std::int64_t>(batch.classes.size());
  if (images == 0) throw UsageError("model: batch", "no image, expected at least one");
  if (!batch.global.defined()) throw UsageError("model: global", "missing, expected [B, C]");
  expect_shape(batch.global, {images, clip->config().projection}, "model: global");
  expect_finite(batch.global, "model: global");
  if (batch.boxes.empty()) return;
  if (batch.boxes.size() != batch.classes.size()) {
    throw UsageError("model: boxes", std::to_string(batch.boxes.size()) + " lists, expected one for each of " +
                                         std::to_string(images) + " images");
  }
  for (std::size_t image = 0; image < batch.boxes.size(); ++image) {
    for (const Box& box : batch.boxes[image]) expect_box(box, image);
  }
}

torch::Tensor FiloModel::Parts::stage_features(const std::map<int, torch::Tensor>& features, int layer,
                                               const char* kind, std::int64_t images) const {
  const std::string where = std::string("model: ") + kind + "." + std::to_string(layer);
  const auto found = features.find(layer);
  if (found == features.end() || !found->second.defined()) throw UsageError(where, "missing, expected [B, P, C_v]");
  const std::int64_t side = settings.image_size / clip->config().patch;
  expect_shape(found->second, {images, side * side, clip->config().vision.width}, where);
  if (found->second.scalar_type() != torch::kFloat32) {
    throw UsageError(where, std::string("type ") + c10::toString(found->second.scalar_type()) + ", expected float32");
  }
  return found->second;
}

FiloModel::FiloModel(const ModelSettings& settings, const Descriptions& descriptions,
                     std::shared_ptr<const ClipModel> clip, std::uint64_t seed) {
  expect_settings(settings, clip->config());
  parts_ = std::make_unique<Parts>(settings, descriptions, std::move(clip));
  parts_->learnable = initial_parameters(settings, parts_->clip->config(), seed, parts_->clip->device());
}

FiloModel::~FiloModel() = default;
FiloModel::FiloModel(FiloModel&&) noexcept = default;

const ModelSettings& FiloModel::settings() const { return parts_->settings; }
const ClipModel& FiloModel::clip() const { return *parts_->clip; }
int FiloModel::patches_per_side() const { return parts_->settings.image_size / parts_->clip->config().patch; }
const TensorMap& FiloModel::parameters() const { return parts_->learnable.tensors; }

std::vector<std::string> FiloModel::stages() const {
  std::vector<std::string> stages;
  for (const int layer : parts_->settings.layers) stages.push_back("qkv." + std::to_string(layer));
  for (const int layer : parts_->vv) stages.push_back("vv." + std::to_string(layer));
  return stages;
}

std::vector<std::string> FiloModel::parameter_group(ParameterGroup group) const {
  std::vector<std::string> names;
  for (const auto& [name, of] : parts_->learnable.groups) {
    if (of == group) names.push_back(name);
  }
  return names;
}

void FiloModel::load_parameters(const TensorMap& given, const std::string& where) {
  std::string problems;
  const auto note = [&](const std::string& problem) { problems += (problems.empty() ? "" : "; ") + problem; };
  for (const auto& [name, parameter] : parameters()) {
    const auto found = given.find(name);
    if (found == given.end()) {
      note("missing '" + name + "', expected shape " + shape_to_string(parameter.sizes()));
    } else if (found->second.sizes() != parameter.sizes()) {
      note("'" + name + "' has shape " + shape_to_string(found->second.sizes()) + ", expected " +
           shape_to_string(parameter.sizes()));
    } else if (!found->second.is_floating_point()) {
      note("'" + name + "' has type " + c10::toString(found->second.scalar_type()) + ", expected float32");
    } else if (!found->second.isfinite().all().item<bool>()) {
      note("'" + name + "' holds values that are not finite");
    }
  }
  for (const auto& [name, tensor] : given) {
    if (!parameters().contains(name)) note("extra '" + name + "' of shape " + shape_to_string(tensor.sizes()));
  }
  if (!problems.empty()) throw UsageError(where, problems);
  const torch::NoGradGuard no_grad;
  for (const auto& [name, tensor] : given) parts_->learnable.tensors.at(name).copy_(tensor);
}

FiloModel::TextFeatures FiloModel::encode_text(const ImageBatch& batch, const ForwardOptions& options) const {
  Parts& parts = *parts_;
  parts.expect_batch(batch);
  // Phase two trains the adapter alone; filo-release's meta nets see its output, but no gradient flows there.
  const bool frozen = options.training && options.with_adapter;
  const c10::AutoGradMode with_gradient(c10::GradMode::is_enabled() && !frozen);

  const bool adapted = parts.release() && options.with_adapter;
  const torch::Tensor global =
      adapted ? adapter(batch.global, parts.parameter(parts.names.adapter(1)), parts.parameter(parts.names.adapter(2)))
              : batch.global;
  const torch::Tensor unit_global = normalized(global);

  auto asked = parts.ask(batch, options.training);
  const torch::Tensor fixed = parts.fixed_features(asked);
  const torch::Tensor learnable =
      parts.learnable_features(asked, unit_global, fixed.defined() ? fixed.size(0) : 0, options.precision);
  const torch::Tensor features = !fixed.defined()       ? learnable
                                 : !learnable.defined() ? fixed
                                                        : torch::cat({fixed, learnable});

  const bool filtering = !parts.release() && parts.settings.prompts.filter;
  torch::Tensor similarity;  // [rows, B] float64 on the CPU
  if (filtering || !options.training) {
    similarity = torch::matmul(features.detach(), unit_global.detach().t()).to(torch::kCPU, torch::kFloat64);
  }

  TextFeatures text;
  const auto images = static_cast<std::int64_t>(asked.size());
  torch::Tensor mean_weights = torch::zeros({2 * images, features.size(0)}, torch::kFloat32);
  auto weights = mean_weights.accessor<float, 2>();
  for (std::int64_t image = 0; image < images; ++image) {
    const auto& one = asked[static_cast<std::size_t>(image)];
    const auto split = static_cast<std::ptrdiff_t>(one.normal_count);
    std::vector<bool> kept(one.row.size(), true);
    std::vector<double> near;
    if (similarity.defined()) {
      const auto values = similarity.accessor<double, 2>();
      for (const std::int64_t row : one.row) near.push_back(values[row][image]);
    }
    if (filtering) {
      std::vector<double> distance;
      for (const double cosine : near) distance.push_back(1 - cosine);
      const auto filtered =
          filter_prompts({distance.begin(), distance.begin() + split}, {distance.begin() + split, distance.end()});
      std::copy(filtered.normal.begin(), filtered.normal.end(), kept.begin());
      std::copy(filtered.abnormal.begin(), filtered.abnormal.end(), kept.begin() + split);
    }
    const auto kept_normal = std::count(kept.begin(), kept.begin() + split, true);
    const auto kept_abnormal = std::count(kept.begin() + split, kept.end(), true);
    for (std::size_t i = 0; i < one.row.size(); ++i) {
      const bool abnormal = i >= one.normal_count;
      if (kept[i]) {
        weights[image + (abnormal ? images : 0)][one.row[i]] +=
            1.0f / static_cast<float>(abnormal ? kept_abnormal : kept_normal);
      }
    }
    if (options.training) continue;
    auto& matches = text.prompts.emplace_back();
    for (std::size_t i = 0; i < one.row.size(); ++i) {
      matches.push_back({one.prompts->set.prompts[static_cast<std::size_t>(one.index[i])], near[i], kept[i]});
    }
  }
  const torch::Tensor means = normalized(torch::matmul(mean_weights.to(features.device()), features));
  // FiLo divides the pair by its common norm, sqrt 2 for two vectors of length 1.
  const torch::Tensor pair = parts.release() ? means / std::sqrt(2.0) : means;
  text.normal = pair.narrow(0, 0, images);
  text.abnormal = pair.narrow(0, images, images);
  return text;
}

torch::Tensor FiloModel::global_logits(const torch::Tensor& global, const TextFeatures& text, bool with_adapter) const {
  const torch::Tensor seen = with_adapter ? adapter(global, parts_->parameter(parts_->names.adapter(1)),
                                                    parts_->parameter(parts_->names.adapter(2)))
                                          : global;
  return text_products(seen, text.normal, text.abnormal) / temperature;
}

FiloModel::StageMaps FiloModel::stage_maps(const ImageBatch& batch, const TextFeatures& text,
                                           Precision precision) const {
  const Parts& parts = *parts_;
  const std::int64_t images = batch.global.size(0);
  std::vector<torch::Tensor> maps;  // each [B, 2, S, S]
  for (std::size_t stage = 0; stage < parts.settings.layers.size(); ++stage) {
    const torch::Tensor patches = parts.stage_features(batch.qkv, parts.settings.layers[stage], "qkv", images);
    const torch::Tensor aligned = linear(patches, parts.parameter(parts.names.linear(stage, "weight")),
                                         parts.parameter(parts.names.linear(stage, "bias")), precision);
    const torch::Tensor compared = comparison(aligned, text.normal, text.abnormal);
    maps.push_back(parts.release() ? filo_release_stage_map(compared, parts.settings.image_size)
                                   : stage_map({compared}, parts.settings.image_size));
  }
  for (std::size_t stage = 0; stage < parts.vv.size(); ++stage) {
    const torch::Tensor patches = parts.stage_features(batch.vv, parts.vv[stage], "vv", images);
    maps.push_back(parts.vv_stage_map(stage, patches, text, precision));
  }
  const torch::Tensor all = torch::stack(maps, 1);  // [B, stages, 2, S, S]
  return {all.select(2, 0), all.select(2, 1)};
}

ForwardOutput FiloModel::forward(const ImageBatch& batch, const ForwardOptions& options) const {
  const Parts& parts = *parts_;
  if (parts.release() && options.memory != nullptr) {
    throw UsageError("model: evaluate.shots", "profile filo-release has no few-shot branch, expected shots: 0");
  }
  if (!options.vision_language && options.memory == nullptr)
    throw UsageError("model: evaluate.vision_language", "found false without a few-shot memory, expected shots");
  ForwardOutput output;
  TextFeatures text = encode_text(batch, options);
  output.text_normal = text.normal;
  output.text_abnormal = text.abnormal;
  output.logits = global_logits(batch.global, text, options.with_adapter);
  output.prompts = text.prompts;
  if (!options.with_maps) return output;

  StageMaps maps = stage_maps(batch, text, options.precision);
  output.maps_normal = std::move(maps.normal);
  output.maps_abnormal = std::move(maps.abnormal);
  if (options.training) return output;

  const double lambda = options.suppression.value_or(parts.settings.boxes.suppression);
  const bool suppressed = !batch.boxes.empty() && lambda != 1;
  output.map = vision_language_map(output.maps_normal, output.maps_abnormal);
  if (parts.release()) {
    output.map = filo_release_gaussian_filter(output.map, options.gaussian_sigma);
    output.score = (output.logits.select(1, 1) * temperature + output.map.flatten(1).amax(1)) / 2;
    if (suppressed) output.map = filo_release_suppress(output.map, batch.boxes, lambda);
    return output;
  }
  if (suppressed) output.map = suppress_outside_boxes(output.map, batch.boxes, lambda);
  if (options.memory != nullptr) {
    std::vector<torch::Tensor> stages;
    for (const int layer : parts.settings.layers) {
      const torch::Tensor patches = parts.stage_features(batch.qkv, layer, "qkv", batch.global.size(0));
      std::vector<torch::Tensor> distances;
      for (std::size_t image = 0; image < batch.classes.size(); ++image) {
        distances.push_back(
            options.memory->distances(batch.classes[image], layer, patches[static_cast<std::int64_t>(image)]));
      }
      stages.push_back(torch::stack(distances));
    }
    torch::Tensor few_shot = few_shot_map(stages, parts.settings.image_size);
    if (suppressed) few_shot = suppress_outside_boxes(few_shot, batch.boxes, lambda);
    output.map = options.vision_language ? (output.map + few_shot) / 2 : few_shot;
  }
  output.map = gaussian_filter(output.map, options.gaussian_sigma);
  output.score = options.vision_language ? global_score(output.logits, output.map) : output.map.flatten(1).amax(1);
  return output;
}

std::vector<RankedDescription> rank_descriptions(const std::vector<PromptMatch>& prompts) {
  std::map<std::string, RankedDescription> best;
  for (const auto& match : prompts) {
    if (!match.prompt.abnormal) continue;
    const auto [found, added] = best.try_emplace(match.prompt.description);
    if (!added && match.similarity <= found->second.similarity) continue;
    const std::string position = match.prompt.position < 0 ? "" : std::string(position_name(match.prompt.position));
    found->second = {match.prompt.description, position, match.similarity};
  }
  std::vector<RankedDescription> ranked;
  for (auto& [description, one] : best) ranked.push_back(std::move(one));
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.similarity > b.similarity; });
  return ranked;
}

}  // namespace filo
