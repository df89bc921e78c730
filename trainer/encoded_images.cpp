#include "trainer/few_shot_images.hpp"

#include <torch/torch.h>

#include <utility>

#include "base/error.hpp"
#include "base/random.hpp"
#include "data/images/image.hpp"
#include "model/systems/system.hpp"

namespace filo {

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
    const std::vector<float> pixels = preprocess_clip(
        decode_image(std::filesystem::path(dataset.root) / normal[i]->path, dataset.grey16), settings.image_size);
    const torch::Tensor image =
        torch::tensor(pixels).view({1, 3, settings.image_size, settings.image_size}).to(clip.device());
    memory.add(class_name, clip.encode_images(image, wanted_features(settings)).qkv);
  }
  return memory;
}

}  // namespace filo
