// Small texts that several rooms make: suggestions for a misspelt word, names that are safe in paths, texts cut to
// length.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace filo {

// Levenshtein distance in bytes.
std::size_t edit_distance(std::string_view a, std::string_view b);

// The candidate within an edit distance of a third of the word's length, or "" when none is near.
template <typename Strings>
std::string nearest(std::string_view word, const Strings& candidates) {
  std::string best;
  std::size_t best_distance = word.size() / 3 + 2;
  for (const auto& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

// The end of a message about an unknown word: "; did you mean filter?", or "" when no candidate is near.
template <typename Strings>
std::string did_you_mean(std::string_view word, const Strings& candidates) {
  const std::string near = nearest(word, candidates);
  return near.empty() ? "" : "; did you mean " + near + "?";
}

// What may stand in paths and job names: letters, digits, '.', '_', '-'; not first '.' or '-'; at most 100.
bool is_plain_name(std::string_view name);

// The text with every `what`, which is not empty, replaced; what takes its place is not looked at again.
std::string replaced(std::string text, std::string_view what, std::string_view with);

// At most the first `bytes` bytes of UTF-8 text, no character cut in two.
std::string cut_text(std::string_view text, std::size_t bytes);

// `value` as printf writes it ("%.1f s"); at most 63 characters.
std::string formatted(double value, const char* format);

}  // namespace filo
