#include <torch/torch.h>

#include <chrono>
#include <cmath>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/log.hpp"
#include "base/signals.hpp"
#include "checkpoint/files.hpp"
#include "checkpoint/snapshot.hpp"
#include "cluster/agreement.hpp"
#include "cluster/gradient_buckets.hpp"
#include "data/sampler.hpp"
#include "data/shards/shards.hpp"
#include "model/systems/filo_model.hpp"
#include "trainer/device.hpp"
#include "trainer/feature_batch.hpp"
#include "trainer/gradients.hpp"
#include "trainer/losses.hpp"
#include "trainer/optimizer.hpp"
#include "trainer/stage_inputs.hpp"
#include "trainer/stages.hpp"

namespace filo {
namespace {

constexpr int prefetched_samples = 16;
constexpr int snapshots_kept = 2;

// Where a run is: everything a resume needs beside parameters and optimiser state.
struct Position {
  std::string phase = "main";
  int epoch = 0;           // of the phase
  std::size_t step = 0;    // of the epoch: the next one to do
  std::int64_t total = 0;  // steps done over both phases
};

struct StepReport {
  double loss_sum = 0;  // over this rank's images
  std::map<std::string, double> parts;
};

std::vector<std::filesystem::path> feature_folders(const Stage& stage) {
  std::vector<std::filesystem::path> folders;
  for (const std::string& key : stage.all_inputs(spec_input::features))
    folders.push_back(stage.workspace().features_folder(key));
  return folders;
}

class Training {
 public:
  Training(Stage& stage, const TrainSpec& spec)
      : stage_(stage),
        spec_(spec),
        reader_(feature_folders(stage)),
        boxes_(load_boxes_of(stage, spec.model)),
        clip_(load_clip_of(stage, spec.clip, ClipTowers::text)),
        model_(spec.model, spec.descriptions, clip_, spec.train.seed) {}

  void run() {
    const std::filesystem::path snapshots = stage_.workspace().snapshots_folder(stage_.key());
    std::optional<Snapshot> snapshot = newest_valid_snapshot(snapshots);
    if (snapshot) {
      position_ = {snapshot->state.at("phase"), snapshot->state.at("epoch"), snapshot->state.at("step"),
                   snapshot->state.at("total")};
      model_.load_parameters(load_tensors(snapshot->params()), snapshot->params().string());
      stage_.events().write("resumed", {{"snapshot", snapshot->folder.filename().string()}, {"step", position_.total}});
    }
    if (position_.phase == "main") {
      run_main_phase(snapshot);
      position_ = {.phase = "adapter", .epoch = 0, .step = 0, .total = position_.total};
      snapshot.reset();
    }
    run_adapter_phase(snapshot);
    write_checkpoint();
  }

 private:
  AdamW make_optimizer(std::vector<LearningRateGroup> groups, const std::optional<Snapshot>& snapshot) {
    AdamW optimizer(model_.parameters(), std::move(groups));
    if (snapshot) {
      optimizer.load_state(load_tensors(snapshot->optimizer()), snapshot->optimizer().string());
    }
    return optimizer;
  }

  // Phase one: prompts, meta nets, MDCI and linear layers against the local loss (equation 9).
  void run_main_phase(const std::optional<Snapshot>& snapshot) {
    const std::vector<std::string> prompts = model_.parameter_group(ParameterGroup::prompts);
    const std::vector<std::string> mdci = model_.parameter_group(ParameterGroup::mdci);
    AdamW optimizer = make_optimizer(
        {{prompts, spec_.train.learning_rate_prompts}, {mdci, spec_.train.learning_rate_mdci}}, snapshot);
    std::vector<std::string> names = prompts;
    names.insert(names.end(), mdci.begin(), mdci.end());
    GradientExchange exchange(stage_.gradient_communicator(), model_.parameters(), names);

    run_epochs(spec_.train.main_epochs, optimizer, [&](const EpochSampler& sampler, int epoch, std::size_t first_step) {
      auto prefetcher =
          std::make_shared<Prefetcher>(reader_, sampler.local_order(epoch, first_step), prefetched_samples, 1);
      return [&, prefetcher](const std::vector<std::size_t>& mine, std::size_t global_count) {
        StepReport report;
        exchange.begin();
        if (!mine.empty()) {
          std::vector<FeatureSample> samples;
          for (std::size_t i = 0; i < mine.size(); ++i) samples.push_back(prefetcher->next().value());
          const FeatureBatch batch = make_batch(samples, reader_.layout(), boxes_);
          ForwardOptions options;
          options.training = true;
          options.precision = spec_.train.precision;
          const LocalLoss loss = [&] {  // the maps themselves are not needed on the way back
            const ForwardOutput output = model_.forward(batch.images, options);
            return local_loss(output.maps_normal, output.maps_abnormal, batch.masks, spec_.model.profile);
          }();
          const auto count = static_cast<double>(mine.size());
          (loss.local * (count / static_cast<double>(global_count)))
              .backward();  // the ranks' sum is the mean over the batch
          report.loss_sum = loss.local.item<double>() * count;
          report.parts = {{"focal", loss.focal.item<double>() * count}, {"dice", loss.dice.item<double>() * count}};
        }
        optimizer.step(exchange.finish());
        return report;
      };
    });
  }

  // Phase two: the adapter alone against the global loss (equation 8). All else is frozen: the paper's text features do
  // not depend on the adapter, are computed once for each image, and the epochs run on vectors. FiLo's meta nets see
  // the adapted feature, so there the text tower runs at each step.
  void run_adapter_phase(const std::optional<Snapshot>& snapshot) {
    const std::vector<std::string> names = model_.parameter_group(ParameterGroup::adapter);
    AdamW optimizer = make_optimizer({{names, spec_.train.learning_rate_adapter}}, snapshot);
    if (spec_.train.adapter_epochs == 0) return;
    const bool text_is_frozen = spec_.model.profile == Profile::paper;
    const FrozenVectors frozen = frozen_vectors(text_is_frozen);
    GradientExchange exchange(stage_.gradient_communicator(), model_.parameters(), names);
    ForwardOptions options;
    options.training = true;
    options.with_adapter = true;
    options.with_maps = false;
    options.precision = spec_.train.precision;

    run_epochs(spec_.train.adapter_epochs, optimizer, [&](const EpochSampler&, int, std::size_t) {
      return [&](const std::vector<std::size_t>& mine, std::size_t global_count) {
        StepReport report;
        exchange.begin();
        if (!mine.empty()) {
          const torch::Tensor rows =
              torch::tensor(std::vector<std::int64_t>(mine.begin(), mine.end())).to(compute_device());
          ImageBatch images;
          images.global = frozen.global.index_select(0, rows);
          std::vector<const SampleInfo*> samples;
          for (const std::size_t index : mine) {
            samples.push_back(&reader_.info(index));
            images.classes.push_back(samples.back()->class_name);
          }
          images.boxes = boxes_of_samples(boxes_, samples);
          const torch::Tensor logits =
              text_is_frozen
                  ? model_.global_logits(
                        images.global,
                        {frozen.text_normal.index_select(0, rows), frozen.text_abnormal.index_select(0, rows), {}},
                        true)
                  : model_.forward(images, options).logits;
          const torch::Tensor loss = global_loss(logits, frozen.labels.index_select(0, rows));
          const auto count = static_cast<double>(mine.size());
          (loss * (count / static_cast<double>(global_count))).backward();
          report.loss_sum = loss.item<double>() * count;
        }
        optimizer.step(exchange.finish());
        return report;
      };
    });
  }

  // The epochs and steps of one phase; `begin_epoch` returns what does a step on this rank's sample indices.
  template <typename BeginEpoch>
  void run_epochs(int epochs, AdamW& optimizer, BeginEpoch begin_epoch) {
    Communicator& communicator = stage_.communicator();
    // A phase has a seed of its own, so that its shuffles do not repeat the other's.
    const std::uint64_t seed = spec_.train.seed * 2 + (position_.phase == "main" ? 0 : 1);
    const EpochSampler sampler(reader_.size(), static_cast<std::size_t>(spec_.train.batch_size), communicator.rank(),
                               communicator.world_size(), seed);
    for (; position_.epoch < epochs; ++position_.epoch, position_.step = 0) {
      auto do_step = begin_epoch(sampler, position_.epoch, position_.step);
      double epoch_loss = 0;
      double epoch_images = 0;
      const auto epoch_started = std::chrono::steady_clock::now();
      for (; position_.step < sampler.steps_per_epoch();) {
        const auto started = std::chrono::steady_clock::now();
        const std::size_t global_count = sampler.global_batch(position_.epoch, position_.step).size();
        const StepReport report = do_step(sampler.local_batch(position_.epoch, position_.step), global_count);
        ++position_.step;
        ++position_.total;

        std::vector<double> sums = {report.loss_sum, part(report, "focal"), part(report, "dice")};
        communicator.all_reduce_sum(sums.data(), sums.size());
        const auto images = static_cast<double>(global_count);
        const double loss = sums[0] / images;
        epoch_loss += sums[0];
        epoch_images += images;
        if (!std::isfinite(loss))
          throw Error("train: phase " + position_.phase + ", step " + std::to_string(position_.total),
                      "the loss is not finite; expected a number: lower the learning rates or check the features");
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - started;
        Json fields = {{"phase", position_.phase},
                       {"epoch", position_.epoch + 1},
                       {"epochs", epochs},
                       {"step", position_.total},
                       {"epoch_step", position_.step},
                       {"steps", sampler.steps_per_epoch()},
                       {"loss", loss},
                       {"images_per_s", images / seconds.count()}};
        if (position_.phase == "main") fields["losses"] = {{"focal", sums[1] / images}, {"dice", sums[2] / images}};
        stage_.events().write("step", fields);

        const int signal = agree_stop(communicator, stop_requested());
        const bool phase_ends = position_.epoch + 1 == epochs && position_.step == sampler.steps_per_epoch();
        if (signal != 0 || phase_ends || position_.total % spec_.train.snapshot_every_steps == 0)
          write_snapshot(optimizer);
        if (signal != 0) {
          stage_.events().write("stopped", {{"signal", signal}, {"step", position_.total}});
          throw StoppedEarly("train: stopped by signal " + std::to_string(signal) + " after step " +
                             std::to_string(position_.total) +
                             "; a snapshot is written, the same command goes on there");
        }
      }
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - epoch_started;
      if (epoch_images > 0) {
        stage_.events().write("epoch", {{"phase", position_.phase},
                                        {"epoch", position_.epoch + 1},
                                        {"epochs", epochs},
                                        {"loss", epoch_loss / epoch_images},
                                        {"images_per_s", epoch_images / seconds.count()}});
        if (stage_.is_root())
          log_info("phase " + position_.phase + ", epoch " + std::to_string(position_.epoch + 1) + "/" +
                   std::to_string(epochs) + ": loss " + std::to_string(epoch_loss / epoch_images));
      }
    }
  }

  static double part(const StepReport& report, const std::string& name) {
    const auto found = report.parts.find(name);
    return found == report.parts.end() ? 0.0 : found->second;
  }

  void write_snapshot(const AdamW& optimizer) {
    if (stage_.is_root()) {
      const std::filesystem::path folder = stage_.workspace().snapshots_folder(stage_.key());
      const Snapshot written = filo::write_snapshot(
          folder, position_.total, [&](const std::filesystem::path& path) { save_tensors(path, model_.parameters()); },
          [&](const std::filesystem::path& path) { save_tensors(path, optimizer.state()); },
          {{"phase", position_.phase},
           {"epoch", position_.epoch},
           {"step", position_.step},
           {"total", position_.total},
           {"world_size", stage_.communicator().world_size()},
           {"seed", spec_.train.seed}});
      prune_snapshots(folder, snapshots_kept);
      stage_.events().write("snapshot", {{"step", position_.total}, {"path", written.folder.filename().string()}});
    }
    stage_.communicator().barrier();
  }

  struct FrozenVectors {
    torch::Tensor global, text_normal, text_abnormal;  // [N, C]; text only where asked for
    torch::Tensor labels;                              // [N] int64
  };

  // Each rank computes its share; a sum over zero-filled tables gives every rank the whole.
  FrozenVectors frozen_vectors(bool with_text) {
    const torch::NoGradGuard no_grad;
    Communicator& communicator = stage_.communicator();
    const auto count = static_cast<std::int64_t>(reader_.size());
    const std::int64_t size = reader_.layout().global_size;
    torch::Tensor table = torch::zeros({count, 3 * size});
    std::vector<std::int64_t> labels;
    for (std::int64_t row = 0; row < count; ++row) {
      const SampleInfo& info = reader_.info(static_cast<std::size_t>(row));
      labels.push_back(info.label);
      if (row % communicator.world_size() != communicator.rank()) continue;
      const FeatureSample sample =
          reader_.read(static_cast<std::size_t>(row), {.global = true, .maps = false, .mask = false});
      ImageBatch image;
      image.global = torch::tensor(sample.global).unsqueeze(0).to(compute_device());
      image.classes = {info.class_name};
      image.boxes = boxes_of_samples(boxes_, {&info});
      table[row].narrow(0, 0, size).copy_(image.global[0]);
      if (!with_text) continue;
      ForwardOptions options;
      options.training = true;
      options.with_maps = false;
      const FiloModel::TextFeatures text = model_.encode_text(image, options);
      table[row].narrow(0, size, size).copy_(text.normal[0]);
      table[row].narrow(0, 2 * size, size).copy_(text.abnormal[0]);
    }
    communicator.all_reduce_sum(table.data_ptr<float>(), static_cast<std::size_t>(table.numel()));
    table = table.to(compute_device());
    return {table.narrow(1, 0, size), table.narrow(1, size, size), table.narrow(1, 2 * size, size),
            torch::tensor(labels).to(compute_device())};
  }

  void write_checkpoint() {
    if (stage_.is_root()) {
      AtomicFolder folder(stage_.workspace().checkpoint_folder(stage_.key()));
      save_tensors(parameters_file(folder.path()), model_.parameters(),
                   {{"profile", to_json(spec_.model).at("profile")}});
      write_json(settings_file(folder.path()),
                 {{"model", to_json(spec_.model)},
                  {"train", to_json(spec_.train)},
                  {"clip", to_json(spec_.clip)},
                  {"descriptions", to_json(spec_.descriptions)},
                  {"trained_on", datasets_member(spec_member::dataset, spec_.datasets).second},
                  {"world_size", stage_.communicator().world_size()}});
      folder.commit();
    }
    stage_.communicator().barrier();
  }

  Stage& stage_;
  const TrainSpec& spec_;
  ShardReader reader_;
  std::vector<ImageBoxes> boxes_;  // of each of the reader's folders
  std::shared_ptr<const ClipModel> clip_;
  FiloModel model_;
  Position position_;
};

}  // namespace

void run_train(Stage& stage) {
  const TrainSpec spec = train_spec_from_json(stage.spec(), stage.spec_file());
  Training training(stage, spec);
  training.run();
  stage.finish(Json::object(), {{artifact_name::checkpoint, artifact_name::checkpoint}});
}

}  // namespace filo
