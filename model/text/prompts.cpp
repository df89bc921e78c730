#include "model/text/prompts.hpp"

#include <algorithm>

#include "base/error.hpp"
#include "data/boxes.hpp"

namespace filo {
namespace {

// What a class's texts are made of, before a template is put around them.
struct Vocabulary {
  std::string name;    // [cls]
  std::string domain;  // [domain]
  std::vector<std::string> normal;
  struct Abnormal {
    std::string text;         // "abnormal bottle with cracked rim", "damaged bottle"
    std::string description;  // "cracked rim", "damaged bottle"
  };
  std::vector<Abnormal> abnormal;
};

std::string filled(std::string state, const std::string& name) {
  for (std::size_t at = state.find("{}"); at != std::string::npos; at = state.find("{}", at + name.size())) {
    state.replace(at, 2, name);
  }
  return state;
}

Vocabulary vocabulary_of(const PromptSettings& settings, const Descriptions& descriptions,
                         const std::string& class_name) {
  const ClassDescription& description = descriptions.of(class_name);
  const std::string name = description.prompt_name.empty() ? default_prompt_name(class_name) : description.prompt_name;
  Vocabulary vocabulary;
  vocabulary.name = settings.class_names ? name : "object";
  vocabulary.domain = description.domain.empty() ? "industrial" : description.domain;

  std::vector<std::string> normal_states = {"normal {}"};
  std::vector<std::string> abnormal_states;
  if (settings.generic_states) {
    normal_states = descriptions.normal_states;
    abnormal_states = descriptions.abnormal_states;
  }
  for (const auto& state : normal_states) vocabulary.normal.push_back(filled(state, vocabulary.name));
  if (settings.descriptions != "none") {
    for (const auto& defect : description.descriptions) {
      vocabulary.abnormal.push_back({"abnormal " + vocabulary.name + " with " + defect, defect});
    }
  }
  if (vocabulary.abnormal.empty() && abnormal_states.empty()) abnormal_states = {"anomalous {}"};
  for (const auto& state : abnormal_states)
    vocabulary.abnormal.push_back({filled(state, vocabulary.name), filled(state, name)});
  return vocabulary;
}

std::string vectors_text(char letter, int vectors) {
  const std::string first = std::string("[") + letter + "1]";
  const std::string last = std::string("[") + letter + std::to_string(vectors) + "]";
  if (vectors == 0) return "";
  if (vectors == 1) return first + " ";
  return first + (vectors == 2 ? "" : "...") + last + " ";
}

class SetBuilder {
 public:
  SetBuilder(const PromptSettings& settings, const Tokenizer& tokenizer, int context_length)
      : settings_(settings), tokenizer_(tokenizer), context_length_(context_length) {}

  void add(PromptFamily family, bool abnormal, const std::string& domain, const std::string& body,
           const std::string& description, int position) {
    Prompt prompt;
    prompt.family = family;
    prompt.abnormal = abnormal;
    prompt.description = description;
    prompt.position = position;
    std::string text = body;
    if (position >= 0) text += std::string(" at ") + position_name(position);
    text += ".";
    int vectors = 0;
    if (family == PromptFamily::fixed) {
      text = "A " + domain + " photo of " + text;
      prompt.text = text;
    } else {
      vectors = settings_.vectors;
      prompt.text = vectors_text(abnormal ? 'W' : 'V', vectors) + text;
    }
    prompt.tokens = tokenizer_.tokenize(text);
    const int length = static_cast<int>(prompt.tokens.size()) + vectors + 2;
    if (length > context_length_) {
      throw UsageError("model: prompt '" + prompt.text + "'",
                       std::to_string(length) + " tokens (with start, end and " + std::to_string(vectors) +
                           " learnable vectors), expected at most " + std::to_string(context_length_) +
                           ": shorten the description or use fewer vectors");
    }
    set_.prompts.push_back(std::move(prompt));
  }

  PromptSet take() { return std::move(set_); }

 private:
  const PromptSettings& settings_;
  const Tokenizer& tokenizer_;
  int context_length_;
  PromptSet set_;
};

std::vector<PromptFamily> families_of(const PromptSettings& settings) {
  std::vector<PromptFamily> families;
  if (settings.fixed_template) families.push_back(PromptFamily::fixed);
  if (settings.learnable_template && settings.method != PromptMethod::none) families.push_back(PromptFamily::learnable);
  if (families.empty()) {
    throw UsageError("model: prompts",
                     "no template is on, expected fixed_template: true (profile paper), or learnable_template: true "
                     "with method coop or cocoop");
  }
  return families;
}

}  // namespace

std::vector<int> every_position() {
  std::vector<int> positions;
  for (int i = 0; i < position_count; ++i) positions.push_back(i);
  return positions;
}

std::vector<int> PromptSet::normal() const {
  std::vector<int> indices;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    if (!prompts[i].abnormal) indices.push_back(static_cast<int>(i));
  }
  return indices;
}

std::vector<int> PromptSet::abnormal(const std::vector<int>& positions) const {
  std::vector<int> indices;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const auto& prompt = prompts[i];
    const bool asked =
        prompt.position < 0 || std::find(positions.begin(), positions.end(), prompt.position) != positions.end();
    if (prompt.abnormal && asked) indices.push_back(static_cast<int>(i));
  }
  return indices;
}

PromptSet build_prompts(const PromptSettings& settings, const Descriptions& descriptions, const std::string& class_name,
                        const Tokenizer& tokenizer, int context_length) {
  const auto families = families_of(settings);
  const Vocabulary vocabulary = vocabulary_of(settings, descriptions, class_name);
  SetBuilder builder(settings, tokenizer, context_length);
  for (const auto family : families) {
    for (const auto& body : vocabulary.normal) builder.add(family, false, vocabulary.domain, body, "", -1);
  }
  const bool without_positions = settings.positions == PositionSource::none;
  for (const auto family : families) {
    for (const auto& [body, description] : vocabulary.abnormal) {
      for (int position = 0; position < position_count; ++position) {
        builder.add(family, true, vocabulary.domain, body, description, without_positions ? -1 : position);
        if (without_positions) break;
      }
    }
  }
  return builder.take();
}

}  // namespace filo
