#include "trainer/phase_batches.hpp"

#include <torch/torch.h>

#include <optional>

#include "trainer/device.hpp"

namespace filo {
namespace {

constexpr int prefetched_samples = 16;

class StreamedBatches final : public PhaseBatches {
 public:
  StreamedBatches(const ShardReader& reader, const std::vector<ImageBoxes>& boxes) : reader_(reader), boxes_(boxes) {}

  void begin_epoch(std::vector<std::size_t> order) override {
    prefetcher_.emplace(reader_, std::move(order), prefetched_samples, 1);
  }
  FeatureBatch take(const std::vector<std::size_t>& samples) override {
    std::vector<FeatureSample> read;
    for (std::size_t i = 0; i < samples.size(); ++i) read.push_back(prefetcher_->next().value());
    return make_batch(read, reader_.layout(), boxes_);
  }

 private:
  const ShardReader& reader_;
  const std::vector<ImageBoxes>& boxes_;
  std::optional<Prefetcher> prefetcher_;
};

class HeldBatches final : public PhaseBatches {
 public:
  HeldBatches(const TrainingPhase& phase, const System& system, const ShardReader& reader,
              const std::vector<ImageBoxes>& boxes, Communicator& communicator)
      : reader_(reader), boxes_(boxes) {
    const std::int64_t size = reader.layout().global_size;
    const torch::Tensor table = all_vectors(phase, system, communicator);
    global_ = table.narrow(1, 0, size);
    if (phase.frozen_width > 0) frozen_ = table.narrow(1, size, phase.frozen_width);
    std::vector<std::int64_t> labels;
    for (std::size_t i = 0; i < reader.size(); ++i) labels.push_back(reader.info(i).label);
    labels_ = torch::tensor(labels).to(compute_device());
  }

  void begin_epoch(std::vector<std::size_t>) override {}
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

  // [N, C + K]: each rank computes its share; a sum over zero-filled tables gives every rank the whole.
  torch::Tensor all_vectors(const TrainingPhase& phase, const System& system, Communicator& communicator) const {
    const torch::NoGradGuard no_grad;
    const std::int64_t size = reader_.layout().global_size;
    torch::Tensor table = torch::zeros({static_cast<std::int64_t>(reader_.size()), size + phase.frozen_width});
    const auto ranks = static_cast<std::size_t>(communicator.world_size());
    const FrozenVectors frozen = system.frozen_vectors(phase);
    for (auto index = static_cast<std::size_t>(communicator.rank()); index < reader_.size(); index += ranks) {
      const FeatureSample sample = reader_.read(index, {.global = true, .maps = false, .mask = false});
      ImageBatch image = images_of({index});
      image.global = torch::tensor(sample.global).unsqueeze(0).to(compute_device());
      const torch::Tensor row = table[static_cast<std::int64_t>(index)];
      row.narrow(0, 0, size).copy_(image.global[0]);
      if (phase.frozen_width > 0) row.narrow(0, size, phase.frozen_width).copy_(frozen(image)[0]);
    }
    communicator.all_reduce_sum(table.data_ptr<float>(), static_cast<std::size_t>(table.numel()));
    return table.to(compute_device());
  }

  const ShardReader& reader_;
  const std::vector<ImageBoxes>& boxes_;
  torch::Tensor global_, frozen_;  // [N, C], [N, K] (or undefined)
  torch::Tensor labels_;           // [N] int64
};

}  // namespace

std::unique_ptr<PhaseBatches> make_phase_batches(const TrainingPhase& phase, const System& system,
                                                 const ShardReader& reader, const std::vector<ImageBoxes>& boxes,
                                                 Communicator& communicator) {
  if (phase.patches) return stream_batches(reader, boxes);
  return std::make_unique<HeldBatches>(phase, system, reader, boxes, communicator);
}

std::unique_ptr<PhaseBatches> stream_batches(const ShardReader& reader, const std::vector<ImageBoxes>& boxes) {
  return std::make_unique<StreamedBatches>(reader, boxes);
}

}  // namespace filo
