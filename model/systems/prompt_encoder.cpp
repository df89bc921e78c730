#include "model/systems/prompt_encoder.hpp"

#include <algorithm>

#include "model/layers/equations.hpp"
#include "model/layers/filter.hpp"
#include "model/text/prompt_tree.hpp"

namespace filo {
namespace {

constexpr double vectors_deviation = 0.02;

const Prompt& prompt_of(const AskedPrompts& image, int index) {
  return image.prompts->set.prompts[static_cast<std::size_t>(index)];
}

// One image's cosine to each of its prompts; `similarity` [rows, B] float64 on the CPU.
std::vector<double> similarities(const torch::Tensor& similarity, const AskedPrompts& image, std::int64_t column) {
  const auto values = similarity.accessor<double, 2>();
  std::vector<double> near;
  for (const std::int64_t row : image.row) near.push_back(values[row][column]);
  return near;
}

std::vector<bool> kept_prompts(const std::vector<double>& near, std::ptrdiff_t normal_count) {
  std::vector<double> distance;
  for (const double cosine : near) distance.push_back(1 - cosine);
  const auto split = distance.begin() + normal_count;
  const FilteredPrompts filtered = filter_prompts({distance.begin(), split}, {split, distance.end()});
  std::vector<bool> kept = filtered.normal;
  kept.insert(kept.end(), filtered.abnormal.begin(), filtered.abnormal.end());
  return kept;
}

}  // namespace

void add_prompt_learner(ParameterInitializer& add, const std::string& prefix, const std::string& vectors_name,
                        const PromptSettings& settings, const ClipConfig& clip) {
  if (!settings.learnable_template || settings.method == PromptMethod::none) return;
  const std::int64_t width = clip.text.width, image = clip.projection, hidden = std::max(1, clip.projection / 16);
  add.normal(prefix + "." + vectors_name, {settings.vectors, width}, vectors_deviation);
  if (settings.method != PromptMethod::cocoop) return;
  add.uniform(prefix + ".meta_net.linear1.weight", {hidden, image}, image);
  add.uniform(prefix + ".meta_net.linear1.bias", {hidden}, image);
  add.uniform(prefix + ".meta_net.linear2.weight", {width, hidden}, hidden);
  add.uniform(prefix + ".meta_net.linear2.bias", {width}, hidden);
}

PromptLearner prompt_learner(const TensorMap& parameters, const std::string& prefix, const std::string& vectors_name) {
  const auto tensor = [&](const std::string& name) {
    const auto found = parameters.find(prefix + "." + name);
    return found == parameters.end() ? torch::Tensor() : found->second;
  };
  return {tensor(vectors_name), tensor("meta_net.linear1.weight"), tensor("meta_net.linear1.bias"),
          tensor("meta_net.linear2.weight"), tensor("meta_net.linear2.bias")};
}

torch::Tensor learnable_vectors(const PromptLearner& normal, const PromptLearner& abnormal,
                                const torch::Tensor& unit_global) {
  if (!normal.vectors.defined()) return {};
  std::vector<torch::Tensor> rows;
  for (const PromptLearner* learner : {&normal, &abnormal}) {
    if (!learner->linear1_weight.defined()) {
      rows.push_back(learner->vectors);
      continue;
    }
    const torch::Tensor hidden =
        torch::relu(torch::linear(unit_global, learner->linear1_weight, learner->linear1_bias));
    const torch::Tensor shift = torch::linear(hidden, learner->linear2_weight, learner->linear2_bias);  // [B, D]
    rows.push_back((learner->vectors.unsqueeze(0) + shift.unsqueeze(1)).flatten(0, 1));
  }
  return torch::cat(rows);
}

PromptEncoder::PromptEncoder(const PromptSettings& settings, const Descriptions& descriptions,
                             std::shared_ptr<const ClipModel> clip)
    : settings_(settings), descriptions_(descriptions), clip_(std::move(clip)) {}

std::shared_ptr<ClassPrompts> PromptEncoder::prompts_of(const std::string& class_name) const {
  const std::lock_guard lock(mutex_);
  auto& known = classes_[class_name];
  if (!known) {
    auto made = std::make_shared<ClassPrompts>();
    made->set = build_prompts(settings_, descriptions_, class_name, clip_->tokenizer(), clip_->config().context_length);
    made->normal = made->set.normal();
    known = std::move(made);
  }
  return known;
}

AskedPrompts PromptEncoder::ask(const std::string& class_name, const std::vector<int>& positions) const {
  AskedPrompts asked;
  asked.prompts = prompts_of(class_name);
  asked.index = asked.prompts->normal;
  asked.normal_count = asked.index.size();
  const std::vector<int> abnormal = asked.prompts->set.abnormal(positions);
  asked.index.insert(asked.index.end(), abnormal.begin(), abnormal.end());
  asked.row.assign(asked.index.size(), -1);
  return asked;
}

// Start token, learnable vectors, tokens, end token. Rows of the vectors: normal ones of all images, then abnormal
// ones.
std::vector<std::int64_t> PromptEncoder::sequence(const Prompt& prompt, std::int64_t image, std::int64_t images) const {
  std::vector<std::int64_t> elements = {clip_->tokenizer().start_token()};
  if (prompt.family == PromptFamily::learnable) {
    const std::int64_t vectors = settings_.vectors;
    const std::int64_t first = ((prompt.abnormal ? images : 0) + image) * vectors;
    for (std::int64_t i = 0; i < vectors; ++i) elements.push_back(-1 - (first + i));
  }
  elements.insert(elements.end(), prompt.tokens.begin(), prompt.tokens.end());
  elements.push_back(clip_->tokenizer().end_token());
  return elements;
}

// A class's prompts of one position are encoded together, and always all of them: the bits of a feature depend on what
// is encoded beside it, and must not depend on which image asked first.
void PromptEncoder::encode_missing(const AskedPrompts& image, PromptFamily family, const torch::Tensor& vectors,
                                   PromptFeatures& held) const {
  const auto group = [&](const Prompt& prompt) {  // who asks for all positions asks for them at once
    return settings_.positions == PositionSource::all ? -1 : prompt.position;
  };
  for (const int index : image.index) {
    const Prompt& missing = prompt_of(image, index);
    if (missing.family != family || held.contains(&missing)) continue;
    std::vector<std::vector<std::int64_t>> sequences;
    std::vector<const Prompt*> prompts;
    for (const Prompt& prompt : image.prompts->set.prompts) {
      if (prompt.family != family || group(prompt) != group(missing)) continue;
      sequences.push_back(sequence(prompt, 0, 1));
      prompts.push_back(&prompt);
    }
    // What is held outlives this call's mode: a tensor made in inference mode could not take part in training later.
    const c10::InferenceMode ordinary_tensors(false);
    const torch::NoGradGuard frozen;
    const torch::Tensor features = normalized(encode_prompt_tree(clip_->text(), PromptTree(sequences), vectors));
    for (std::size_t i = 0; i < prompts.size(); ++i) held[prompts[i]] = features[static_cast<std::int64_t>(i)];
  }
}

// Normalised features of the prompts of one family that the images ask for, [rows, C]; undefined when there is none.
torch::Tensor PromptEncoder::held_features(std::vector<AskedPrompts>& images, PromptFamily family,
                                           const torch::Tensor& vectors, std::int64_t first_row,
                                           PromptFeatures& held) const {
  std::vector<torch::Tensor> rows;
  std::map<const Prompt*, std::int64_t> row_of;
  for (auto& image : images) {
    encode_missing(image, family, vectors, held);
    for (std::size_t i = 0; i < image.index.size(); ++i) {
      const Prompt& prompt = prompt_of(image, image.index[i]);
      if (prompt.family != family) continue;
      const auto [found, added] = row_of.try_emplace(&prompt, first_row + static_cast<std::int64_t>(rows.size()));
      if (added) rows.push_back(held.at(&prompt));
      image.row[i] = found->second;
    }
  }
  return rows.empty() ? torch::Tensor() : torch::stack(rows);
}

// Normalised features of the learnable prompts that the images ask for; undefined when there is none.
torch::Tensor PromptEncoder::learnable_features(std::vector<AskedPrompts>& images, const torch::Tensor& vectors,
                                                std::int64_t first_row, Precision precision) const {
  const bool per_image = settings_.method == PromptMethod::cocoop;
  std::vector<std::vector<std::int64_t>> sequences;
  std::map<std::vector<std::int64_t>, std::int64_t> row_of;
  const auto count = per_image ? static_cast<std::int64_t>(images.size()) : 1;
  for (std::size_t image = 0; image < images.size(); ++image) {
    auto& asked = images[image];
    for (std::size_t i = 0; i < asked.index.size(); ++i) {
      const Prompt& prompt = prompt_of(asked, asked.index[i]);
      if (prompt.family != PromptFamily::learnable) continue;
      auto elements = sequence(prompt, per_image ? static_cast<std::int64_t>(image) : 0, count);
      const auto [found, added] = row_of.try_emplace(elements, static_cast<std::int64_t>(sequences.size()));
      if (added) sequences.push_back(std::move(elements));
      asked.row[i] = first_row + found->second;
    }
  }
  if (sequences.empty()) return {};
  return normalized(encode_prompt_tree(clip_->text(), PromptTree(sequences), vectors, precision));
}

EncodedPrompts PromptEncoder::encode(const std::vector<std::string>& classes,
                                     const std::vector<std::vector<int>>& positions, const torch::Tensor& vectors,
                                     Precision precision, PromptFeatures* held) const {
  EncodedPrompts encoded;
  for (std::size_t image = 0; image < classes.size(); ++image)
    encoded.images.push_back(ask(classes[image], positions[image]));
  const torch::Tensor fixed = [&] {
    const std::lock_guard lock(mutex_);
    return held_features(encoded.images, PromptFamily::fixed, {}, 0, fixed_);
  }();
  const std::int64_t first_row = fixed.defined() ? fixed.size(0) : 0;
  const bool hold = held != nullptr && settings_.method != PromptMethod::cocoop;
  const torch::Tensor learnable =
      hold ? held_features(encoded.images, PromptFamily::learnable, vectors, first_row, *held)
           : learnable_features(encoded.images, vectors, first_row, precision);
  encoded.features = !fixed.defined() ? learnable : !learnable.defined() ? fixed : torch::cat({fixed, learnable});
  return encoded;
}

std::size_t PromptEncoder::learnable_prompts(const std::string& class_name, const std::vector<int>& positions) const {
  const AskedPrompts asked = ask(class_name, positions);
  return static_cast<std::size_t>(std::ranges::count_if(
      asked.index, [&](int index) { return prompt_of(asked, index).family == PromptFamily::learnable; }));
}

TextFeatures mean_text_features(const EncodedPrompts& encoded, const torch::Tensor& unit_global,
                                const MeanOptions& options) {
  const torch::Tensor& features = encoded.features;
  torch::Tensor similarity;  // [rows, B] float64 on the CPU
  if (options.filter || options.matches)
    similarity = torch::matmul(features.detach(), unit_global.detach().t()).to(torch::kCPU, torch::kFloat64);

  TextFeatures text;
  const auto images = static_cast<std::int64_t>(encoded.images.size());
  torch::Tensor mean_weights = torch::zeros({2 * images, features.size(0)}, torch::kFloat32);
  auto weights = mean_weights.accessor<float, 2>();
  for (std::int64_t image = 0; image < images; ++image) {
    const AskedPrompts& asked = encoded.images[static_cast<std::size_t>(image)];
    const auto split = static_cast<std::ptrdiff_t>(asked.normal_count);
    std::vector<double> near;
    if (similarity.defined()) near = similarities(similarity, asked, image);
    const std::vector<bool> kept =
        options.filter ? kept_prompts(near, split) : std::vector<bool>(asked.row.size(), true);
    const auto kept_normal = std::count(kept.begin(), kept.begin() + split, true);
    const auto kept_abnormal = std::count(kept.begin() + split, kept.end(), true);
    for (std::size_t i = 0; i < asked.row.size(); ++i) {
      const bool abnormal = i >= asked.normal_count;
      if (!kept[i]) continue;
      weights[image + (abnormal ? images : 0)][asked.row[i]] +=
          1.0f / static_cast<float>(abnormal ? kept_abnormal : kept_normal);
    }
    if (!options.matches) continue;
    auto& matches = text.prompts.emplace_back();
    for (std::size_t i = 0; i < asked.row.size(); ++i)
      matches.push_back({prompt_of(asked, asked.index[i]), near[i], kept[i]});
  }
  const torch::Tensor means = normalized(torch::matmul(mean_weights.to(features.device()), features));
  text.normal = means.narrow(0, 0, images);
  text.abnormal = means.narrow(0, images, images);
  return text;
}

}  // namespace filo
