#include "model/layers/equations.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"

namespace filo {
namespace {

// True where a pixel is inside a box, [S, S]. `first` and `last` give the half-open range of pixels of a box's side.
template <typename PixelRange>
torch::Tensor inside(const std::vector<Box>& boxes, std::int64_t size, PixelRange range) {
  torch::Tensor mask = torch::zeros({size, size}, torch::kBool);
  for (const Box& box : boxes) {
    const auto [left, right] = range(box.x0, box.x1);
    const auto [top, bottom] = range(box.y0, box.y1);
    if (left < right && top < bottom) mask.slice(0, top, bottom).slice(1, left, right).fill_(true);
  }
  return mask;
}

template <typename PixelRange>
torch::Tensor inside_of_images(const torch::Tensor& map, const std::vector<std::vector<Box>>& boxes, PixelRange range) {
  if (static_cast<std::int64_t>(boxes.size()) != map.size(0)) {
    throw UsageError("model: boxes", std::to_string(boxes.size()) + " lists, expected one for each of " +
                                         std::to_string(map.size(0)) + " images");
  }
  std::vector<torch::Tensor> masks;
  for (const auto& image : boxes) masks.push_back(inside(image, map.size(1), range));
  return torch::stack(masks).to(map.device());
}

std::int64_t clamped_pixel(double value, std::int64_t size) {
  return std::clamp(static_cast<std::int64_t>(value), std::int64_t{0}, size);
}

torch::Tensor gaussian_kernel(int radius, double sigma, const torch::TensorOptions& options) {
  std::vector<double> taps;
  double sum = 0;
  for (int x = -radius; x <= radius; ++x) {
    taps.push_back(std::exp(-0.5 * x * x / (sigma * sigma)));
    sum += taps.back();
  }
  for (double& tap : taps) tap /= sum;
  return torch::tensor(taps, torch::kFloat64).to(options);
}

// Places of a line of `size` pixels extended by `radius` at both ends, mirrored as often as it takes.
torch::Tensor mirrored_places(std::int64_t size, std::int64_t radius, bool repeat_edge, torch::Device device) {
  const std::int64_t period = repeat_edge ? 2 * size : std::max<std::int64_t>(2 * size - 2, 1);
  std::vector<std::int64_t> places;
  for (std::int64_t x = -radius; x < size + radius; ++x) {
    const std::int64_t place = ((x % period) + period) % period;
    places.push_back(place < size ? place : period - place - (repeat_edge ? 1 : 0));
  }
  return torch::tensor(places, torch::kInt64).to(device);
}

torch::Tensor separable_gaussian(const torch::Tensor& map, int radius, double sigma, bool repeat_edge) {
  const torch::Tensor kernel = gaussian_kernel(radius, sigma, map.options());
  const std::int64_t size = map.size(1);
  const torch::Tensor places = mirrored_places(size, radius, repeat_edge, map.device());
  torch::Tensor x = map.unsqueeze(1);
  x = at::conv2d(x.index_select(2, places), kernel.view({1, 1, -1, 1}));
  x = at::conv2d(x.index_select(3, places), kernel.view({1, 1, 1, -1}));
  return x.squeeze(1);
}

std::int64_t side_of(const torch::Tensor& grid) {
  const auto side = static_cast<std::int64_t>(std::lround(std::sqrt(static_cast<double>(grid.size(1)))));
  if (side * side != grid.size(1)) {
    throw UsageError("model: patches", std::to_string(grid.size(1)) + " patches, expected a square number");
  }
  return side;
}

}  // namespace

torch::Tensor normalized(const torch::Tensor& x) { return x / x.norm(2, -1, true).clamp_min(1e-12); }

torch::Tensor adapter(const torch::Tensor& global, const torch::Tensor& first, const torch::Tensor& second) {
  return global + torch::silu(torch::linear(torch::relu(torch::linear(global, first)), second));
}

torch::Tensor text_products(const torch::Tensor& global, const torch::Tensor& normal, const torch::Tensor& abnormal) {
  const torch::Tensor unit = normalized(global);
  return torch::stack({(unit * normal).sum(1), (unit * abnormal).sum(1)}, 1);
}

torch::Tensor global_score(const torch::Tensor& logits, const torch::Tensor& map) {
  return torch::softmax(logits, 1).select(1, 1) + map.flatten(1).amax(1);
}

torch::Tensor comparison(const torch::Tensor& features, const torch::Tensor& normal, const torch::Tensor& abnormal) {
  const torch::Tensor difference = (abnormal - normal).unsqueeze(2);  // [B, C, 1]
  return 100 * torch::bmm(features, difference).squeeze(2) / features.norm(2, -1).clamp_min(1e-12);
}

torch::Tensor upsample(const torch::Tensor& grid, int size) {
  return at::upsample_bilinear2d(grid, {size, size}, /*align_corners=*/true);
}

torch::Tensor stage_map(const std::vector<torch::Tensor>& comparisons, int size) {
  torch::Tensor normal, abnormal;
  for (const auto& one : comparisons) {
    normal = normal.defined() ? normal + torch::sigmoid(-one) : torch::sigmoid(-one);
    abnormal = abnormal.defined() ? abnormal + torch::sigmoid(one) : torch::sigmoid(one);
  }
  const std::int64_t side = side_of(normal);
  const auto summands = static_cast<double>(comparisons.size());
  return upsample((torch::stack({normal, abnormal}, 1) / summands).view({-1, 2, side, side}), size);
}

torch::Tensor filo_release_stage_map(const torch::Tensor& comparison, int size) {
  const std::int64_t side = side_of(comparison);
  const torch::Tensor difference = upsample(comparison.view({-1, 1, side, side}), size);
  return torch::cat({torch::sigmoid(-difference), torch::sigmoid(difference)}, 1);
}

torch::Tensor vision_language_map(const torch::Tensor& maps_normal, const torch::Tensor& maps_abnormal) {
  return (maps_abnormal.mean(1) + 1 - maps_normal.mean(1)) / 2;
}

torch::Tensor few_shot_map(const std::vector<torch::Tensor>& distances, int size) {
  const torch::Tensor mean = torch::stack(distances).mean(0);
  const std::int64_t side = side_of(mean);
  return upsample(mean.view({-1, 1, side, side}), size).squeeze(1);
}

torch::Tensor suppress_outside_boxes(const torch::Tensor& map, const std::vector<std::vector<Box>>& boxes,
                                     double lambda) {
  const std::int64_t size = map.size(1);
  const torch::Tensor mask = inside_of_images(map, boxes, [size](double low, double high) {
    const auto first_centre_from = [size](double edge) {
      return clamped_pixel(std::ceil(edge * static_cast<double>(size) - 0.5), size);
    };
    return std::pair(first_centre_from(low), first_centre_from(high));
  });
  return torch::where(mask, map, map * lambda);
}

torch::Tensor filo_release_suppress(const torch::Tensor& map, const std::vector<std::vector<Box>>& boxes,
                                    double lambda) {
  const std::int64_t size = map.size(1);
  const torch::Tensor mask = inside_of_images(map, boxes, [size](float low, float high) {
    const auto bound = [size](float edge) {
      const auto pixel = static_cast<std::int64_t>(edge * static_cast<float>(size));
      return std::clamp(pixel < 0 ? pixel + size : pixel, std::int64_t{0}, size);
    };
    return std::pair(bound(low), bound(high));
  });
  return torch::where(torch::logical_or(mask, map == 1), map, map * lambda);
}

torch::Tensor gaussian_filter(const torch::Tensor& map, double sigma) {
  if (sigma <= 0) return map;
  return separable_gaussian(map, static_cast<int>(4 * sigma + 0.5), sigma, true);
}

torch::Tensor filo_release_gaussian_filter(const torch::Tensor& map, double sigma) {
  if (sigma <= 0) return map;
  return separable_gaussian(map, 1, sigma, false);
}

}  // namespace filo
