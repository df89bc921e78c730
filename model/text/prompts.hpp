// The prompts of a class: which texts the two sets (normal, abnormal) are made of (section III-B of the paper). No
// tensors.
#pragma once

#include <string>
#include <vector>

#include "model/clip/tokenizer.hpp"
#include "settings/descriptions.hpp"
#include "settings/model.hpp"

namespace filo {

constexpr int center_position = 4;  // as position_name()
std::vector<int> every_position();  // 0..8

enum class PromptFamily { fixed, learnable };

struct Prompt {
  PromptFamily family = PromptFamily::fixed;
  bool abnormal = false;
  std::string text;  // as it reads: "A industrial photo of flawless bottle.", "[W1]…[W12] damaged bottle at top left."
  std::string
      description;    // of abnormal prompts: the fine-grained description, or the generic state ("damaged bottle")
  int position = -1;  // 0..8 as position_name(); -1: none in the text
  std::vector<int> tokens;  // without start, end and learnable vectors
};

// Normal prompts first, then abnormal ones, description by description, position by position.
struct PromptSet {
  std::vector<Prompt> prompts;

  std::vector<int> normal() const;  // indices
  // Indices of the abnormal prompts at any of `positions` (prompts without a position always belong).
  std::vector<int> abnormal(const std::vector<int>& positions) const;
};

// All prompts of `class_name` with all nine positions (settings.positions none: without).
// Throws UsageError naming the prompt, its length and the context when a prompt is longer than `context_length`; the
// class when it has no descriptions (descriptions.of); the settings' key when a set would be empty.
PromptSet build_prompts(const PromptSettings& settings, const Descriptions& descriptions, const std::string& class_name,
                        const Tokenizer& tokenizer, int context_length);

}  // namespace filo
