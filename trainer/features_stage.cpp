#include <c10/util/ParallelGuard.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <future>
#include <set>
#include <utility>

#include "base/error.hpp"
#include "base/log.hpp"
#include "base/signals.hpp"
#include "cluster/agreement.hpp"
#include "data/samples/samples.hpp"
#include "data/shards/cache_care.hpp"
#include "data/shards/shard_writer.hpp"
#include "model/systems/system.hpp"
#include "trainer/device.hpp"
#include "trainer/stage_inputs.hpp"
#include "trainer/stages.hpp"

namespace filo {
namespace {

constexpr std::size_t samples_per_batch = 4;

using Samples = std::vector<SampleInfo>;
using Clock = std::chrono::steady_clock;

struct PreparedSample {
  SampleInfo info;
  std::vector<float> pixels;       // [3, S, S], normalised
  std::vector<std::uint8_t> mask;  // [S, S]
};

PreparedSample prepare(SampleDecoder& decoder, const SampleInfo& wanted, int image_size) {
  DecodedSample decoded = decoder.decode(wanted);
  return {std::move(decoded.info), preprocess_clip(decoded.image, image_size), std::move(decoded.mask)};
}

// [B, 3, S, S]
torch::Tensor stacked_pixels(const std::vector<PreparedSample>& batch, int image_size) {
  torch::Tensor pixels = torch::empty({static_cast<std::int64_t>(batch.size()), 3, image_size, image_size});
  for (std::size_t i = 0; i < batch.size(); ++i)
    std::copy(batch[i].pixels.begin(), batch[i].pixels.end(), pixels[static_cast<std::int64_t>(i)].data_ptr<float>());
  return pixels;
}

template <typename Value>
std::vector<Value> values_of(const torch::Tensor& tensor) {
  const auto* values = static_cast<const Value*>(tensor.const_data_ptr());
  return {values, values + tensor.nbytes() / sizeof(Value)};
}

// [P, C_v] float32 in the layout's type; int8: a patch's largest value is 127 of its scale. Cast where it was computed.
FeatureMap map_of(const torch::Tensor& values, FeatureType type) {
  const auto bytes = [](const torch::Tensor& tensor) {
    return values_of<std::byte>(tensor.to(torch::kCPU).contiguous());
  };
  switch (type) {
    case FeatureType::f16:
      return {bytes(values.to(torch::kHalf)), {}};
    case FeatureType::bf16:
      return {bytes(values.to(torch::kBFloat16)), {}};
    case FeatureType::f32:
      return {bytes(values), {}};
    case FeatureType::int8:
      break;
  }
  const torch::Tensor scales = values.abs().amax(-1).div(127.0).clamp_min(1e-30);
  const torch::Tensor integers = values.div(scales.unsqueeze(-1)).round().to(torch::kChar);
  return {bytes(integers), values_of<float>(scales.to(torch::kCPU).contiguous())};
}

FeatureSample sample_of(const PreparedSample& prepared, const VisionFeatures& features, std::int64_t row,
                        FeatureType type) {
  FeatureSample sample;
  static_cast<SampleInfo&>(sample) = prepared.info;
  sample.global = values_of<float>(features.global[row].to(torch::kCPU).contiguous());
  for (const auto& [layer, tensor] : features.qkv) sample.qkv[layer] = map_of(tensor[row], type);
  for (const auto& [layer, tensor] : features.vv) sample.vv[layer] = map_of(tensor[row], type);
  sample.mask = prepared.mask;
  return sample;
}

// Samples that are encoded together, always the same ones: a sample's features have the same bits whoever makes them,
// and whatever was there before.
struct Group {
  Samples samples;
  std::vector<bool> missing;  // in no shard that is whole
};

// Those with a missing sample, in their order.
std::vector<Group> missing_groups(const Samples& wanted, const std::set<std::string>& finished) {
  std::vector<Group> groups;
  for (std::size_t first = 0; first < wanted.size(); first += samples_per_batch) {
    Group group;
    for (std::size_t i = first; i < std::min(first + samples_per_batch, wanted.size()); ++i) {
      group.samples.push_back(wanted[i]);
      group.missing.push_back(!finished.contains(wanted[i].image));
    }
    if (std::ranges::count(group.missing, true) > 0) groups.push_back(std::move(group));
  }
  return groups;
}

// Dealt over what is missing, so that a restart balances too; neighbours to one rank: tiles of one image are decoded
// once.
std::vector<Group> groups_of_rank(const std::vector<Group>& groups, int rank, int world_size) {
  const auto begin_of = [&](int number) {
    return groups.begin() + static_cast<std::ptrdiff_t>(groups.size() * static_cast<std::size_t>(number) /
                                                        static_cast<std::size_t>(world_size));
  };
  return {begin_of(rank), begin_of(rank + 1)};
}

// What all ranks know of the work.
struct Work {
  const Dataset& dataset;
  const ClipModel& clip;
  VisionOptions vision;
  int image_size = 0;
  const char* unit = "";     // what the samples are
  std::size_t total = 0;     // samples of the cache
  std::size_t finished = 0;  // of them, before this attempt
  std::size_t groups = 0;    // that are still to be encoded, by all ranks
};

// This rank's groups, decoded ahead by threads of their own: as many batches at once as the rank has threads, two at
// least.
class DecodedBatches {
 public:
  DecodedBatches(const Work& work, const std::vector<Group>& groups, int threads)
      : work_(work),
        groups_(groups),
        ahead_(static_cast<std::size_t>(std::max(threads, 2))),
        decoder_(work.dataset, work.image_size, ahead_) {
    while (begin_next()) {
    }
  }

  std::vector<PreparedSample> next() {
    std::vector<PreparedSample> batch = batches_.front().get();
    batches_.pop_front();
    begin_next();
    return batch;
  }

 private:
  bool begin_next() {
    if (begun_ == groups_.size() || batches_.size() >= ahead_) return false;
    batches_.push_back(std::async(std::launch::async, [this, &group = groups_[begun_]] {
      std::vector<PreparedSample> batch;
      for (const SampleInfo& sample : group.samples) batch.push_back(prepare(decoder_, sample, work_.image_size));
      return batch;
    }));
    ++begun_;
    return true;
  }

  const Work& work_;
  const std::vector<Group>& groups_;
  const std::size_t ahead_;
  SampleDecoder decoder_;
  std::size_t begun_ = 0;
  std::deque<std::future<std::vector<PreparedSample>>> batches_;
};

// Converts, checksums and writes a batch while the tower computes the next one.
class BackgroundWriter {
 public:
  BackgroundWriter(ShardWriter& writer, FeatureType type) : writer_(writer), type_(type) {}

  // What is missing of the group; waits for the one before.
  void append(const Group& group, std::vector<PreparedSample> batch, VisionFeatures features) {
    wait();
    writing_ = std::async(std::launch::async, [this, &group, batch = std::move(batch), features = std::move(features)] {
      const torch::NoGradGuard no_grad;
      const c10::ParallelGuard alone(true);  // threads of its own would wait for work on the tower's cores
      for (std::size_t i = 0; i < batch.size(); ++i)
        if (group.missing[i]) writer_.append(sample_of(batch[i], features, static_cast<std::int64_t>(i), type_));
    });
  }
  void close() {
    wait();
    writer_.close();
  }

 private:
  void wait() {
    if (writing_.valid()) writing_.get();
  }

  ShardWriter& writer_;
  const FeatureType type_;
  std::future<void> writing_;
};

// Encodes `mine` into the writer's shards. All ranks take as many steps.
void encode(Stage& stage, const Work& work, const std::vector<Group>& mine, BackgroundWriter& writer) {
  DecodedBatches decoded(work, mine, stage.arguments().threads);
  const auto ranks = static_cast<std::size_t>(stage.communicator().world_size());
  const std::size_t missing = work.total - work.finished, steps = (work.groups + ranks - 1) / ranks;
  const Clock::time_point started = Clock::now();
  for (std::size_t step = 0; step < steps; ++step) {
    stage.at("batch " + std::to_string(step + 1) + " of " + std::to_string(steps));
    stage.expect_current();
    if (const int signal = agree_stop(stage.communicator(), stop_requested()); signal != 0) {
      writer.close();
      stage.events().write("stopped", {{"signal", signal}});
      throw StoppedEarly("features: stopped by signal " + std::to_string(signal) + "; finished shards are kept");
    }
    if (step < mine.size()) {
      std::vector<PreparedSample> batch = decoded.next();
      const torch::Tensor pixels = stacked_pixels(batch, work.image_size).to(compute_device());
      writer.append(mine[step], std::move(batch), work.clip.encode_images(pixels, work.vision));
    }
    const std::size_t here = missing * std::min((step + 1) * ranks, work.groups) / work.groups;  // of all ranks
    const double seconds = std::chrono::duration<double>(Clock::now() - started).count();
    stage.events().write("progress", {{"done", work.finished + here},
                                      {"total", work.total},
                                      {"unit", work.unit},
                                      {"images_per_s", static_cast<double>(here) / seconds}});
  }
  writer.close();
}

// The shards of earlier attempts that are whole and of this cache, each looked at by one rank, the same on all.
std::vector<ShardFile> sound_shards(Stage& stage, const std::filesystem::path& folder, const FeatureLayout& layout,
                                    const Json& key) {
  Communicator& communicator = stage.communicator();
  const std::vector<std::string> names = Json::parse(
      broadcast_text(communicator, Json(stage.is_root() ? shard_names(folder) : std::vector<std::string>()).dump()));
  Json sound = Json::array();
  for (auto i = static_cast<std::size_t>(communicator.rank()); i < names.size();
       i += static_cast<std::size_t>(communicator.world_size())) {
    stage.at("checking " + names[i] + " of " + std::to_string(names.size()));
    try {
      if (const auto file = check_shard(folder / names[i], layout, key))
        sound.push_back(to_json(*file));
      else
        log_warning("features: " + (folder / names[i]).string() + " was made with other settings: it is not used");
    } catch (const ShardDamage& damage) {
      set_aside(folder / names[i]);
      log_warning("features: set aside, its images are encoded again: " + std::string(damage.what()));
    }
  }
  std::vector<ShardFile> shards;
  std::string all = "[]";
  const auto parts = communicator.gather_bytes(sound.dump());
  if (stage.is_root()) {
    Json joined = Json::array();
    for (const std::string& part : parts)
      for (const Json& file : Json::parse(part)) joined.push_back(file);
    all = joined.dump();
  }
  for (const Json& file : Json::parse(broadcast_text(communicator, all))) shards.push_back(shard_file_from_json(file));
  return shards;
}

}  // namespace

void run_features(Stage& stage) {
  const FeaturesSpec spec = features_spec_from_json(stage.spec(), stage.spec_file());
  const Dataset dataset = load_dataset_of(stage, spec.dataset);
  const auto clip = load_clip_of(stage, spec.clip, spec.model);
  const FeatureLayout layout = feature_layout(clip->config(), spec);
  const Json key = features_key(spec);
  const Samples wanted =
      spec.mosaics > 0 ? mosaics_of(dataset, spec.model.tiling, spec.mosaics) : samples_of(dataset, spec.model.tiling);

  const std::filesystem::path folder = stage.workspace().features_folder(stage.key());
  std::filesystem::create_directories(folder);
  Communicator& communicator = stage.communicator();
  if (stage.is_root()) {
    stage.expect_current();
    remove_unfinished_shards(folder);  // of starts before this one, which come to an end where they still run
  }
  communicator.barrier();
  std::vector<ShardFile> shards = sound_shards(stage, folder, layout, key);
  std::set<std::string> finished;
  for (const ShardFile& shard : shards) finished.insert(shard.images.begin(), shard.images.end());
  const std::vector<Group> groups = missing_groups(wanted, finished);
  const std::vector<Group> mine = groups_of_rank(groups, communicator.rank(), communicator.world_size());

  const Work work = {.dataset = dataset,
                     .clip = *clip,
                     .vision = wanted_features(spec.model),
                     .image_size = spec.model.image_size,
                     .unit = unit_of_samples(key),
                     .total = wanted.size(),
                     .finished = finished.size(),
                     .groups = groups.size()};
  ShardWriter writer(folder, layout, key, stage.start_name() + "-" + std::to_string(communicator.rank()),
                     memory_in_bytes(stage.arguments().shard_size));
  BackgroundWriter background(writer, layout.type);
  encode(stage, work, mine, background);
  Json written = Json::array();
  for (const ShardFile& file : writer.finished()) written.push_back(to_json(file));
  const auto all_written = communicator.gather_bytes(written.dump());
  if (stage.is_root()) {
    for (const std::string& part : all_written)
      for (const Json& file : Json::parse(part)) shards.push_back(shard_file_from_json(file));
    std::vector<std::string> order;
    for (const SampleInfo& sample : wanted) order.push_back(sample.image);
    stage.expect_current();
    finish_features(folder, layout, key, order, std::move(shards));
  }
  stage.finish({{"images", wanted.size()}}, {});
}

}  // namespace filo
