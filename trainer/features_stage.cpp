#include <torch/torch.h>

#include <future>
#include <set>

#include "base/error.hpp"
#include "base/signals.hpp"
#include "cluster/agreement.hpp"
#include "data/datasets/dataset.hpp"
#include "data/images/image.hpp"
#include "data/shards/shards.hpp"
#include "model/systems/system.hpp"
#include "trainer/device.hpp"
#include "trainer/stage_inputs.hpp"
#include "trainer/stages.hpp"

namespace filo {
namespace {

constexpr std::size_t images_per_batch = 4;
constexpr std::size_t samples_per_shard = 64;  // about 1.2 GB at the paper's size

using Images = std::vector<const DatasetImage*>;

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

// [B, 3, S, S]
torch::Tensor stacked_pixels(const std::vector<PreparedImage>& batch, int image_size) {
  torch::Tensor pixels = torch::empty({static_cast<std::int64_t>(batch.size()), 3, image_size, image_size});
  for (std::size_t i = 0; i < batch.size(); ++i)
    std::copy(batch[i].pixels.begin(), batch[i].pixels.end(), pixels[static_cast<std::int64_t>(i)].data_ptr<float>());
  return pixels;
}

std::vector<std::uint16_t> half_bits(const torch::Tensor& values) {
  const torch::Tensor half = values.to(torch::kCPU, torch::kHalf).contiguous();
  const auto* bits = static_cast<const std::uint16_t*>(half.const_data_ptr());
  return {bits, bits + half.numel()};
}

FeatureSample sample_of(const PreparedImage& image, const VisionFeatures& features, std::int64_t row) {
  FeatureSample sample;
  sample.image = image.entry->path;
  sample.class_name = image.entry->class_name;
  sample.label = image.entry->label;
  sample.split = image.entry->split;
  sample.defect = image.entry->defect;
  const torch::Tensor global = features.global[row].to(torch::kCPU).contiguous();
  sample.global.assign(global.data_ptr<float>(), global.data_ptr<float>() + global.numel());
  for (const auto& [layer, tensor] : features.qkv) sample.qkv[layer] = half_bits(tensor[row]);
  for (const auto& [layer, tensor] : features.vv) sample.vv[layer] = half_bits(tensor[row]);
  sample.mask = image.mask;
  return sample;
}

Images test_split(const Dataset& dataset) {
  Images images;
  for (const DatasetImage& image : dataset.images)
    if (image.split == "test") images.push_back(&image);
  return images;
}

// Dealt over what is missing, so that a restart balances too.
Images missing_images_of_rank(const Images& wanted, const std::set<std::string>& finished, int rank, int world_size) {
  Images mine;
  int dealt = 0;
  for (const DatasetImage* image : wanted)
    if (!finished.contains(image->path) && dealt++ % world_size == rank) mine.push_back(image);
  return mine;
}

// What all ranks know of the work.
struct Work {
  const Dataset& dataset;
  const ClipModel& clip;
  VisionOptions vision;
  int image_size = 0;
  std::size_t total = 0;     // images of the cache
  std::size_t finished = 0;  // of them, before this attempt
};

// Encodes `mine` into the writer's shards; one thread decodes the next batch meanwhile. All ranks take as many steps.
void encode(Stage& stage, const Work& work, const Images& mine, ShardWriter& writer) {
  const auto load = [&](std::size_t first) {
    std::vector<PreparedImage> batch;
    for (std::size_t i = first; i < std::min(first + images_per_batch, mine.size()); ++i)
      batch.push_back(prepare(work.dataset, *mine[i], work.image_size));
    return batch;
  };
  std::future<std::vector<PreparedImage>> next;
  if (!mine.empty()) next = std::async(std::launch::async, load, 0);
  const auto ranks = static_cast<std::size_t>(stage.communicator().world_size());
  const std::size_t steps = work.total / ranks / images_per_batch + 2;
  for (std::size_t step = 0, first = 0; step < steps; ++step, first += images_per_batch) {
    stage.at("batch " + std::to_string(step + 1) + " of " + std::to_string(steps));
    if (const int signal = agree_stop(stage.communicator(), stop_requested()); signal != 0) {
      writer.close();
      stage.events().write("stopped", {{"signal", signal}});
      throw StoppedEarly("features: stopped by signal " + std::to_string(signal) + "; finished shards are kept");
    }
    if (first >= mine.size()) continue;
    const std::vector<PreparedImage> batch = next.get();
    if (first + images_per_batch < mine.size()) next = std::async(std::launch::async, load, first + images_per_batch);
    const torch::Tensor pixels = stacked_pixels(batch, work.image_size).to(compute_device());
    const VisionFeatures features = work.clip.encode_images(pixels, work.vision);
    for (std::size_t i = 0; i < batch.size(); ++i)
      writer.append(sample_of(batch[i], features, static_cast<std::int64_t>(i)));
    const std::size_t done = std::min((first + batch.size()) * ranks + work.finished, work.total);
    stage.events().write("progress", {{"done", done}, {"total", work.total}, {"unit", "images"}});
  }
  writer.close();
}

}  // namespace

void run_features(Stage& stage) {
  const FeaturesSpec spec = features_spec_from_json(stage.spec(), stage.spec_file());
  const Dataset dataset = load_dataset_of(stage, spec.dataset);
  const auto clip = load_clip_of(stage, spec.clip, spec.model);
  const FeatureLayout layout = feature_layout(clip->config(), spec);
  const Json key = features_key(spec);
  const Images wanted = test_split(dataset);

  const std::filesystem::path folder = stage.workspace().features_folder(stage.key());
  std::filesystem::create_directories(folder);
  Communicator& communicator = stage.communicator();
  communicator.barrier();
  const std::set<std::string> finished = finished_images(folder, layout, key);
  const Images mine = missing_images_of_rank(wanted, finished, communicator.rank(), communicator.world_size());
  communicator.barrier();  // nobody adds a shard before everybody has listed them

  const Work work = {dataset,       *clip,          wanted_features(spec.model), spec.model.image_size,
                     wanted.size(), finished.size()};
  {
    ShardWriter writer(folder, layout, key, communicator.rank(), samples_per_shard);
    encode(stage, work, mine, writer);
  }
  communicator.barrier();
  if (stage.is_root()) {
    std::vector<std::string> order;
    for (const DatasetImage* image : wanted) order.push_back(image->path);
    finish_features(folder, layout, key, order);
  }
  stage.finish({{"images", wanted.size()}}, {});
}

}  // namespace filo
