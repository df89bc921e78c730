#include <torch/torch.h>

#include <future>
#include <set>

#include "base/error.hpp"
#include "base/log.hpp"
#include "base/signals.hpp"
#include "cluster/agreement.hpp"
#include "data/datasets/dataset.hpp"
#include "data/images/image.hpp"
#include "data/shards/shards.hpp"
#include "model/clip/clip.hpp"
#include "trainer/device.hpp"
#include "trainer/stage_inputs.hpp"
#include "trainer/stages.hpp"

namespace filo {
namespace {

constexpr int images_per_batch = 4;
constexpr int samples_per_shard = 64;  // about 1.2 GB at the paper's size

struct PreparedImage {
  const DatasetImage* entry = nullptr;
  std::vector<float> pixels;       // [3, S, S], normalised
  std::vector<std::uint8_t> mask;  // [S, S]
};

PreparedImage prepare(const Dataset& dataset, const DatasetImage& entry, int image_size) {
  const std::filesystem::path root = dataset.root;
  PreparedImage prepared{&entry, preprocess_clip(decode_image(root / entry.path), image_size), {}};
  prepared.mask = entry.mask ? preprocess_mask(decode_mask(root / *entry.mask), image_size)
                             : std::vector<std::uint8_t>(static_cast<std::size_t>(image_size) * image_size);
  return prepared;
}

std::vector<std::uint16_t> half_bits(const torch::Tensor& values) {
  const torch::Tensor half = values.to(torch::kCPU, torch::kHalf).contiguous();
  const auto* bits = static_cast<const std::uint16_t*>(half.const_data_ptr());
  return {bits, bits + half.numel()};
}

}  // namespace

void run_features(Stage& stage) {
  const FeaturesSpec spec = features_spec_from_json(stage.spec(), stage.spec_file());
  const Dataset dataset = load_dataset_of(stage, spec.dataset);
  const auto clip = load_clip_of(stage, spec.clip);
  const VisionOptions vision{spec.profile, spec.layers, spec.vv_from};
  const FeatureLayout layout = feature_layout(clip->config(), spec);

  std::vector<const DatasetImage*> wanted;
  for (const DatasetImage& image : dataset.images)
    if (image.split == "test") wanted.push_back(&image);
  const std::filesystem::path folder = stage.workspace().features_folder(stage.key());
  std::filesystem::create_directories(folder);
  stage.communicator().barrier();
  const Json key = features_key(spec);
  const std::set<std::string> finished = finished_images(folder, layout, key);
  std::vector<const DatasetImage*> mine;  // dealt over what is missing, so that a restart balances too
  std::size_t dealt = 0;
  for (const DatasetImage* image : wanted)
    if (!finished.contains(image->path) &&
        static_cast<int>(dealt++ % stage.communicator().world_size()) == stage.communicator().rank())
      mine.push_back(image);
  stage.communicator().barrier();  // nobody adds a shard before everybody has listed them

  {
    ShardWriter writer(folder, layout, key, stage.communicator().rank(), samples_per_shard);
    auto load = [&](std::size_t first) {
      std::vector<PreparedImage> batch;
      for (std::size_t i = first; i < std::min(first + images_per_batch, mine.size()); ++i)
        batch.push_back(prepare(dataset, *mine[i], spec.image_size));
      return batch;
    };
    std::future<std::vector<PreparedImage>> next;
    if (!mine.empty()) next = std::async(std::launch::async, load, 0);
    const std::size_t steps = (wanted.size() / stage.communicator().world_size() / images_per_batch) + 2;
    for (std::size_t step = 0, first = 0; step < steps; ++step, first += images_per_batch) {
      if (const int signal = agree_stop(stage.communicator(), stop_requested()); signal != 0) {
        writer.close();
        stage.events().write("stopped", {{"signal", signal}});
        throw StoppedEarly("features: stopped by signal " + std::to_string(signal) + "; finished shards are kept");
      }
      if (first >= mine.size()) continue;
      const std::vector<PreparedImage> batch = next.get();
      if (first + images_per_batch < mine.size()) next = std::async(std::launch::async, load, first + images_per_batch);
      torch::Tensor pixels =
          torch::empty({static_cast<std::int64_t>(batch.size()), 3, spec.image_size, spec.image_size});
      for (std::size_t i = 0; i < batch.size(); ++i)
        std::copy(batch[i].pixels.begin(), batch[i].pixels.end(),
                  pixels[static_cast<std::int64_t>(i)].data_ptr<float>());
      const VisionFeatures features = clip->encode_images(pixels.to(compute_device()), vision);
      for (std::size_t i = 0; i < batch.size(); ++i) {
        const auto index = static_cast<std::int64_t>(i);
        const DatasetImage& entry = *batch[i].entry;
        FeatureSample sample;
        sample.image = entry.path;
        sample.class_name = entry.class_name;
        sample.label = entry.label;
        sample.split = entry.split;
        sample.defect = entry.defect;
        const torch::Tensor global = features.global[index].to(torch::kCPU).contiguous();
        sample.global.assign(global.data_ptr<float>(), global.data_ptr<float>() + global.numel());
        for (const auto& [layer, tensor] : features.qkv) sample.qkv[layer] = half_bits(tensor[index]);
        for (const auto& [layer, tensor] : features.vv) sample.vv[layer] = half_bits(tensor[index]);
        sample.mask = batch[i].mask;
        writer.append(sample);
      }
      const std::size_t done =
          std::min((first + batch.size()) * stage.communicator().world_size() + finished.size(), wanted.size());
      stage.events().write("progress", {{"done", done}, {"total", wanted.size()}, {"unit", "images"}});
    }
    writer.close();
  }

  stage.communicator().barrier();
  if (stage.is_root()) {
    std::vector<std::string> order;
    for (const DatasetImage* image : wanted) order.push_back(image->path);
    finish_features(folder, layout, key, order);
  }
  stage.finish({{"images", wanted.size()}}, {});
}

}  // namespace filo
