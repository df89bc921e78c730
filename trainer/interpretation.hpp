// Which anomaly it is: a class's descriptions by their similarity to an image (section III-B of the paper).
#pragma once

#include <vector>

#include "base/json.hpp"
#include "model/systems/system.hpp"

namespace filo {

// The five nearest descriptions, best first: [{"description", "position", "similarity"}, ...].
Json interpretation(const std::vector<PromptMatch>& prompts);

}  // namespace filo
