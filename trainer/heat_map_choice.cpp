#include "trainer/heat_map_choice.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/random.hpp"

namespace filo {
namespace {

// An image is taken to be anomalous from this score on. Of several with the same F1, the highest.
float best_threshold(std::span<const float> scores, std::span<const std::uint8_t> labels) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  const auto anomalous = static_cast<double>(std::count(labels.begin(), labels.end(), 1));
  float threshold = scores[order.front()];
  double best = 0, hits = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    hits += labels[order[i]];
    if (i + 1 < order.size() && scores[order[i + 1]] == scores[order[i]]) continue;
    const double f1 = 2 * hits / (static_cast<double>(i + 1) + anomalous);
    if (f1 <= best) continue;
    best = f1;
    threshold = scores[order[i]];
  }
  return threshold;
}

void add(std::vector<ChosenHeatMap>& chosen, const std::string& why, std::span<const std::size_t> images) {
  const std::size_t width = std::to_string(images.size()).size();
  for (std::size_t i = 0; i < images.size(); ++i) {
    const std::string number = std::to_string(i + 1);
    chosen.push_back({why + "-" + std::string(width - number.size(), '0') + number, images[i]});
  }
}

}  // namespace

std::vector<ChosenHeatMap> choose_heat_maps(std::span<const float> scores, std::span<const std::uint8_t> labels,
                                            const std::string& class_name, int count) {
  std::vector<ChosenHeatMap> chosen;
  if (scores.empty() || count <= 0) return chosen;
  const float threshold = best_threshold(scores, labels);
  const auto margin = [&](std::size_t image) {
    return labels[image] == 1 ? scores[image] - threshold : threshold - scores[image];
  };
  std::vector<std::size_t> images(scores.size());
  std::iota(images.begin(), images.end(), std::size_t{0});
  std::vector<std::size_t> drawn = images;
  std::stable_sort(images.begin(), images.end(), [&](std::size_t a, std::size_t b) { return margin(a) < margin(b); });

  const auto asked = static_cast<std::size_t>(count);
  const std::size_t worst = std::min((asked + 2) / 3, images.size());
  const std::size_t best = std::min((asked + 1) / 3, images.size() - worst);
  const std::size_t random = std::min(asked / 3, images.size());
  add(chosen, "worst", std::span(images).first(worst));
  std::reverse(images.begin(), images.end());
  add(chosen, "best", std::span(images).first(best));
  Random numbers(0, "heat maps " + class_name);
  for (std::size_t i = 0; i < random; ++i) std::swap(drawn[i], drawn[i + numbers.below(drawn.size() - i)]);
  add(chosen, "random", std::span(drawn).first(random));
  return chosen;
}

}  // namespace filo
