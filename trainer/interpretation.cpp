#include "trainer/interpretation.hpp"

#include <algorithm>

namespace filo {
namespace {

constexpr std::size_t descriptions_kept = 5;

}  // namespace

Json interpretation(const std::vector<PromptMatch>& prompts) {
  Json entries = Json::array();
  const std::vector<RankedDescription> ranked = rank_descriptions(prompts);
  for (std::size_t i = 0; i < std::min(ranked.size(), descriptions_kept); ++i)
    entries.push_back({{"description", ranked[i].description},
                       {"position", ranked[i].position},
                       {"similarity", ranked[i].similarity}});
  return entries;
}

}  // namespace filo
