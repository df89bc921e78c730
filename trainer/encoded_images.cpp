#include "trainer/encoded_images.hpp"

#include <torch/torch.h>

#include <utility>

#include "base/error.hpp"
#include "base/random.hpp"
#include "model/systems/system.hpp"

namespace filo {

void encode_tiles(const ClipModel& clip, const ModelSettings& settings, const Image& image,
                  const std::function<void(const Tile&, const VisionFeatures&)>& use) {
  const int size = settings.image_size;
  for (const Tile& tile : tiles_of({image.width, image.height}, settings.tiling)) {
    const std::vector<float> pixels = preprocess_clip(cut_tile(image, tile), size);
    use(tile, clip.encode_images(torch::tensor(pixels).view({1, 3, size, size}).to(clip.device()),
                                 wanted_features(settings)));
  }
}

FewShotMemory few_shot_memory(const ClipModel& clip, const ModelSettings& settings, const Dataset& dataset,
                              const std::string& class_name, int shots, std::uint64_t seed) {
  std::vector<const DatasetImage*> normal;
  for (const DatasetImage& image : dataset.images)
    if (image.class_name == class_name && image.split == "train" && image.label == 0) normal.push_back(&image);
  if (static_cast<int>(normal.size()) < shots)
    throw Error("evaluate: data set " + dataset.name,
                "class " + class_name + " has " + std::to_string(normal.size()) +
                    " normal training images, expected at least evaluate.shots = " + std::to_string(shots));
  Random random(seed, "few-shot " + class_name);
  FewShotMemory memory;
  for (std::size_t i = 0; i < static_cast<std::size_t>(shots);
       ++i) {  // Fisher-Yates: the k-shot sets of one seed are nested
    std::swap(normal[i], normal[i + random.below(normal.size() - i)]);
    const Image image = decode_image(std::filesystem::path(dataset.root) / normal[i]->path, dataset.grey16);
    encode_tiles(clip, settings, image,
                 [&](const Tile&, const VisionFeatures& features) { memory.add(class_name, features.qkv); });
  }
  return memory;
}

}  // namespace filo
