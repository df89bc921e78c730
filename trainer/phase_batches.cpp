#include "trainer/phase_batches.hpp"

#include <torch/torch.h>

#include <algorithm>
#include <optional>
#include <set>

#include "base/hash.hpp"
#include "base/signals.hpp"
#include "cluster/agreement.hpp"
#include "trainer/device.hpp"
#include "trainer/kept_rows.hpp"

namespace filo {
namespace {

constexpr std::size_t images_at_a_time = 4;  // of each rank, ahead of a phase

class StreamedBatches final : public PhaseBatches {
 public:
  StreamedBatches(const Stage& stage, const ShardReader& reader, const std::vector<ImageBoxes>& boxes)
      : reader_(reader), boxes_(boxes), options_(prefetch_options(stage)) {}

  void begin_epoch(std::vector<std::vector<std::size_t>> batches) override {
    prefetcher_.emplace(reader_, std::move(batches), options_);
  }
  FeatureBatch take(const std::vector<std::size_t>&) override {
    return make_batch(prefetcher_->next().value(), reader_.layout(), boxes_);
  }

 private:
  const ShardReader& reader_;
  const std::vector<ImageBoxes>& boxes_;
  const PrefetchOptions options_;
  std::optional<Prefetcher> prefetcher_;
};

// Of what a phase's frozen vectors depend on and the stage's spec does not tell: the parameters that another phase has
// trained.
std::string digest_of_frozen(const TrainingPhase& phase, const System& system, std::size_t images) {
  std::set<std::string> learning;
  for (const ParameterGroup& group : phase.groups) learning.insert(group.names.begin(), group.names.end());
  Sha256 sum;
  sum.update("1 " + phase.name + " " + std::to_string(images) + " " + std::to_string(phase.frozen_width) + "\n");
  for (const auto& [name, parameter] : system.parameters()) {
    if (learning.contains(name)) continue;
    const torch::Tensor values = parameter.detach().to(torch::kCPU).contiguous();
    sum.update(name + "\n");
    sum.update(std::string_view(static_cast<const char*>(values.const_data_ptr()), values.nbytes()));
  }
  return sum.hex();
}

class HeldBatches final : public PhaseBatches {
 public:
  HeldBatches(Stage& stage, const TrainingPhase& phase, const System& system, const ShardReader& reader,
              const std::vector<ImageBoxes>& boxes)
      : stage_(stage), reader_(reader), boxes_(boxes) {
    const torch::Tensor global = all_global();
    if (phase.frozen_width > 0) frozen_ = all_frozen(phase, system, global).to(compute_device());
    global_ = global.to(compute_device());
    std::vector<std::int64_t> labels;
    for (std::size_t i = 0; i < reader.size(); ++i) labels.push_back(reader.info(i).label);
    labels_ = torch::tensor(labels).to(compute_device());
  }

  void begin_epoch(std::vector<std::vector<std::size_t>>) override {}
  FeatureBatch take(const std::vector<std::size_t>& samples) override {
    const torch::Tensor rows =
        torch::tensor(std::vector<std::int64_t>(samples.begin(), samples.end())).to(compute_device());
    FeatureBatch batch;
    batch.images = images_of(samples);
    batch.images.global = global_.index_select(0, rows);
    if (frozen_.defined()) batch.images.frozen = frozen_.index_select(0, rows);
    batch.labels = labels_.index_select(0, rows);
    return batch;
  }

 private:
  // Classes, boxes and names of samples, without features.
  ImageBatch images_of(const std::vector<std::size_t>& samples) const {
    ImageBatch images;
    std::vector<const SampleInfo*> infos;
    for (const std::size_t index : samples) {
      infos.push_back(&reader_.info(index));
      images.classes.push_back(infos.back()->class_name);
    }
    images.boxes = boxes_of_samples(boxes_, infos);
    return images;
  }

  // [N, C] on the CPU: each rank reads its share; a sum over zero-filled tables gives every rank the whole.
  torch::Tensor all_global() const {
    Communicator& communicator = stage_.communicator();
    torch::Tensor table = torch::zeros({static_cast<std::int64_t>(reader_.size()), reader_.layout().global_size});
    const auto ranks = static_cast<std::size_t>(communicator.world_size());
    for (auto index = static_cast<std::size_t>(communicator.rank()); index < reader_.size(); index += ranks) {
      const FeatureBlock sample = reader_.read(index, {.global = true, .maps = false, .mask = false});
      std::copy_n(sample.global(), reader_.layout().global_size,
                  table[static_cast<std::int64_t>(index)].data_ptr<float>());
    }
    communicator.all_reduce_sum(table.data_ptr<float>(), static_cast<std::size_t>(table.numel()));
    return table;
  }

  // [N, K] on the CPU, rank 0's on every rank. The images in their order, so many at a time: each rank computes a share
  // of them, and rank 0 keeps them for the attempt that goes on.
  torch::Tensor all_frozen(const TrainingPhase& phase, const System& system, const torch::Tensor& global) const {
    Communicator& communicator = stage_.communicator();
    const std::size_t total = reader_.size();
    std::optional<KeptRows> kept;
    if (stage_.is_root())
      kept.emplace(stage_.workspace().kept_folder(stage_.key()) /
                       (phase.name + "-" + digest_of_frozen(phase, system, total).substr(0, 16)),
                   total, static_cast<std::size_t>(phase.frozen_width));
    std::uint64_t done = kept ? kept->size() : 0;
    communicator.broadcast(&done, sizeof done, 0);
    const FrozenVectors vectors_of = system.frozen_vectors(phase);
    const auto rank = static_cast<std::size_t>(communicator.rank());
    const auto ranks = static_cast<std::size_t>(communicator.world_size());
    if (done > 0) report_progress(phase, done);
    while (done < total) {
      stage_.at(std::to_string(done) + " of " + std::to_string(total) + " images ahead of phase " + phase.name);
      if (const int signal = agree_stop(communicator, stop_requested())) stop(phase, signal, done);
      const std::size_t images = std::min(ranks * images_at_a_time, total - done);
      std::string mine;
      for (std::size_t i = images * rank / ranks; i < images * (rank + 1) / ranks; ++i)
        mine += frozen_bytes(vectors_of, done + i, global);
      std::string rows;
      for (const std::string& share : communicator.gather_bytes(mine)) rows += share;
      if (kept) {
        stage_.expect_current();
        kept->append({reinterpret_cast<const float*>(rows.data()), rows.size() / sizeof(float)});
      }
      report_progress(phase, done += images);
    }
    torch::Tensor table = torch::empty({static_cast<std::int64_t>(total), phase.frozen_width});
    if (kept) std::ranges::copy(kept->values(), table.data_ptr<float>());
    communicator.broadcast(table.data_ptr(), table.nbytes(), 0);
    return table;
  }

  // K float32.
  std::string frozen_bytes(const FrozenVectors& vectors_of, std::size_t index, const torch::Tensor& global) const {
    ImageBatch image = images_of({index});
    image.global = global.narrow(0, static_cast<std::int64_t>(index), 1).to(compute_device());
    const torch::Tensor vectors = vectors_of(image).to(torch::kCPU).contiguous();
    return {static_cast<const char*>(vectors.const_data_ptr()), vectors.nbytes()};
  }

  void report_progress(const TrainingPhase& phase, std::size_t done) const {
    stage_.events().write("progress",
                          {{"done", done}, {"total", reader_.size()}, {"unit", "images ahead of phase " + phase.name}});
  }

  // All ranks, after the same image.
  [[noreturn]] void stop(const TrainingPhase& phase, int signal, std::size_t done) const {
    stage_.events().write("stopped", {{"signal", signal}});
    throw StoppedEarly("train: stopped by signal " + std::to_string(signal) + " after " + std::to_string(done) +
                       " of " + std::to_string(reader_.size()) + " images ahead of phase " + phase.name +
                       "; they are kept, the same command goes on there");
  }

  Stage& stage_;
  const ShardReader& reader_;
  const std::vector<ImageBoxes>& boxes_;
  torch::Tensor global_, frozen_;  // [N, C], [N, K] (or undefined)
  torch::Tensor labels_;           // [N] int64
};

}  // namespace

std::unique_ptr<PhaseBatches> make_phase_batches(Stage& stage, const TrainingPhase& phase, const System& system,
                                                 const ShardReader& reader, const std::vector<ImageBoxes>& boxes) {
  if (phase.patches) return stream_batches(stage, reader, boxes);
  return std::make_unique<HeldBatches>(stage, phase, system, reader, boxes);
}

std::unique_ptr<PhaseBatches> stream_batches(const Stage& stage, const ShardReader& reader,
                                             const std::vector<ImageBoxes>& boxes) {
  return std::make_unique<StreamedBatches>(stage, reader, boxes);
}

}  // namespace filo
