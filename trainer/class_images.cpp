#include "trainer/class_images.hpp"

#include <algorithm>

#include "data/sampler.hpp"
#include "data/samples/samples.hpp"

namespace filo {

std::map<std::string, std::vector<EvaluatedImage>> images_by_class(const ShardReader& reader) {
  std::map<std::string, std::vector<EvaluatedImage>> classes;
  const int side = reader.layout().mask_size;
  for (std::size_t i = 0; i < reader.size(); ++i) {
    const SampleInfo& info = reader.info(i);
    const std::string path = images_of(info).front();
    auto& images = classes[info.class_name];
    if (images.empty() || images.back().path != path)
      images.push_back({.path = path, .size = {side, side}, .tiles = {}, .samples = {}});
    EvaluatedImage& image = images.back();
    image.samples.push_back(i);
    if (info.parts.empty()) {
      image.tiles.push_back({0, 0, side, side});
    } else {
      image.size = {info.parts.front().image_width, info.parts.front().image_height};
      image.tiles.push_back(info.parts.front().tile);
    }
  }
  return classes;
}

ImageSize map_size_of(const std::vector<EvaluatedImage>& images, const TilingSettings& tiling, int side) {
  ImageSize largest = {side, side};
  for (const EvaluatedImage& image : images) {
    if (image.tiles.size() == 1) continue;
    const ImageSize size = joined_size(image.size, tiling, side);
    largest = {std::max(largest.width, size.width), std::max(largest.height, size.height)};
  }
  return largest;
}

Deal deal(const std::vector<EvaluatedImage>& images, std::size_t most, std::size_t rank, std::size_t ranks) {
  std::size_t largest = 1;  // of the images, in samples
  for (const EvaluatedImage& image : images) largest = std::max(largest, image.samples.size());
  const std::size_t of_rank = std::max<std::size_t>(most / largest, 1);
  Deal deal{.rounds = {}, .images = ranks * of_rank, .batches = (of_rank * largest + most - 1) / most};
  for (std::size_t first = 0; first < images.size(); first += deal.images) {
    Deal::Round& round = deal.rounds.emplace_back();
    std::vector<std::size_t> samples;
    for (std::size_t place = first + rank; place < std::min(first + deal.images, images.size()); place += ranks) {
      round.places.push_back(place);
      samples.insert(samples.end(), images[place].samples.begin(), images[place].samples.end());
    }
    round.batches = pieces_of(samples, most);
  }
  return deal;
}

}  // namespace filo
