#include "model/systems/filo_release/boxes.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "model/text/prompts.hpp"

namespace filo {
namespace {

// 0 to 2, or -1: in none.
int third_of(float centre, int size) {
  const auto third = static_cast<float>(size / 3), two_thirds = static_cast<float>(2 * size / 3);
  if (centre >= 0 && centre <= third) return 0;
  if (centre >= third + 1 && centre <= two_thirds - 1) return 1;
  if (centre >= two_thirds && centre <= static_cast<float>(size - 1)) return 2;
  return -1;
}

constexpr std::array general_words = {"anomaly", "damage", "broken", "defect", "contamination"};

}  // namespace

std::vector<Box> filo_release_matches(const std::vector<Box>& boxes, const std::vector<std::string>& phrases) {
  std::vector<Box> matching;
  for (const Box& box : boxes) {
    const auto occurs = [&](const auto& words) { return box.phrase->find(words) != std::string::npos; };
    if (!box.phrase || std::ranges::any_of(phrases, occurs) || std::ranges::any_of(general_words, occurs))
      matching.push_back(box);
  }
  return matching;
}

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
  const int column = third_of((best->x0 * pixels + best->x1 * pixels) / 2, size);
  const int row = third_of((best->y0 * pixels + best->y1 * pixels) / 2, size);
  if (column < 0 || row < 0) return every_position();
  return {row * 3 + column};
}

}  // namespace filo
