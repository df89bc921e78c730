// Runtime prompt filtering (section III-B-3 of the paper). No tensors.
#pragma once

#include <vector>

namespace filo {

struct FilteredPrompts {
  std::vector<bool> normal, abnormal;  // true: kept
};

// Cosine distances of one image to each prompt of the two sets, D_n and D_a. Removes from both what lies inside the
// closed interval D_c = [max(min D_n, min D_a), min(max D_n, max D_a)]; an empty interval (first end beyond the second)
// removes nothing. A set that would end empty keeps its nearest prompt, the first of equals. Empty input stays empty.
FilteredPrompts filter_prompts(const std::vector<double>& normal, const std::vector<double>& abnormal);

}  // namespace filo
