#include "trainer/loop.hpp"

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "base/error.hpp"
#include "base/log.hpp"
#include "base/signals.hpp"
#include "checkpoint/snapshot.hpp"
#include "cluster/agreement.hpp"
#include "data/sampler.hpp"
#include "trainer/gradients.hpp"
#include "trainer/optimizer.hpp"
#include "trainer/phase_batches.hpp"

namespace filo {
namespace {

constexpr int snapshots_kept = 2;

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Where a run is: everything a resume needs beside parameters and optimiser state.
struct Position {
  std::string phase;
  int epoch = 0;           // of the phase
  std::size_t step = 0;    // of the epoch: the next one to do
  std::int64_t total = 0;  // steps done over all phases
};

std::vector<std::string> names_of(const TrainingPhase& phase) {
  std::vector<std::string> names;
  for (const ParameterGroup& group : phase.groups) names.insert(names.end(), group.names.begin(), group.names.end());
  return names;
}

// The first place is the loss, the others the phase's terms; sums over images.
using LossSums = std::vector<double>;

class PhaseLoop {
 public:
  // `number`: of the phase, from 0. `snapshot`: to go on from; none: the phase begins.
  PhaseLoop(Stage& stage, const TrainSettings& settings, System& system, const TrainingPhase& phase, std::uint64_t seed,
            const ShardReader& reader, const std::vector<ImageBoxes>& boxes, Position& position,
            const std::optional<Snapshot>& snapshot)
      : stage_(stage),
        settings_(settings),
        system_(system),
        phase_(phase),
        position_(position),
        communicator_(stage.communicator()),
        sampler_(reader.size(), static_cast<std::size_t>(settings.batch_size), communicator_.rank(),
                 communicator_.world_size(), seed),
        optimizer_(system.parameters(), phase.groups),
        exchange_(stage.gradient_communicator(), system.parameters(), names_of(phase)) {
    if (snapshot) optimizer_.load_state(load_tensors(snapshot->optimizer()), snapshot->optimizer().string());
    batches_ = make_phase_batches(phase, system, reader, boxes, communicator_);
  }

  void run() {
    for (; position_.epoch < phase_.epochs; ++position_.epoch, position_.step = 0) run_epoch();
  }

 private:
  void run_epoch() {
    batches_->begin_epoch(sampler_.local_order(position_.epoch, position_.step));
    const Clock::time_point started = Clock::now();
    double loss_sum = 0, images = 0;
    while (position_.step < sampler_.steps_per_epoch()) {
      images += static_cast<double>(images_of_step());
      loss_sum += run_step();
    }
    if (images > 0) report_epoch(loss_sum / images, images / seconds_since(started));
  }

  std::size_t images_of_step() const { return sampler_.global_batch(position_.epoch, position_.step).size(); }

  // The same on every rank. Returns the loss summed over the images of the global batch.
  double run_step() {
    const Clock::time_point started = Clock::now();
    const auto images = static_cast<double>(images_of_step());
    LossSums sums = compute(sampler_.local_batch(position_.epoch, position_.step), images);
    optimizer_.step(exchange_.finish());  // of gradients that are summed over the ranks
    communicator_.all_reduce_sum(sums.data(), sums.size());
    ++position_.step;
    ++position_.total;
    report_step(sums, images, started);
    end_step();
    return sums.front();
  }

  // Forward and backward on this rank's samples, which may be none.
  LossSums compute(const std::vector<std::size_t>& samples, double global_images) {
    LossSums sums(1 + phase_.loss_terms.size());
    exchange_.begin();
    if (samples.empty()) return sums;
    const FeatureBatch batch = batches_->take(samples);
    TrainingOptions options;
    options.precision = settings_.precision;
    const Losses losses = [&] {  // the maps themselves are not needed on the way back
      const ForwardOutput output = system_.train_forward(phase_, batch.images, options);
      return system_.losses(phase_, output, batch.masks, batch.labels);
    }();
    const auto images = static_cast<double>(samples.size());
    (losses.total * (images / global_images)).backward();  // the ranks' sum is the mean over the global batch
    sums[0] = losses.total.item<double>() * images;
    for (std::size_t i = 0; i < losses.terms.size(); ++i) sums[1 + i] = losses.terms[i].item<double>() * images;
    return sums;
  }

  void report_step(const LossSums& sums, double images, Clock::time_point started) {
    const double loss = sums[0] / images;
    if (!std::isfinite(loss))
      throw Error("train: phase " + position_.phase + ", step " + std::to_string(position_.total),
                  "the loss is not finite; expected a number: lower the learning rates or check the features");
    Json fields = {{"phase", position_.phase},
                   {"epoch", position_.epoch + 1},
                   {"epochs", phase_.epochs},
                   {"step", position_.total},
                   {"epoch_step", position_.step},
                   {"steps", sampler_.steps_per_epoch()},
                   {"loss", loss},
                   {"images_per_s", images / seconds_since(started)}};
    for (std::size_t i = 0; i < phase_.loss_terms.size(); ++i)
      fields["losses"][phase_.loss_terms[i]] = sums[1 + i] / images;
    stage_.events().write("step", fields);
  }

  // All ranks stop at the same step or none does.
  void end_step() {
    const int signal = agree_stop(communicator_, stop_requested());
    const bool phase_ends = position_.epoch + 1 == phase_.epochs && position_.step == sampler_.steps_per_epoch();
    if (signal != 0 || phase_ends || position_.total % settings_.snapshot_every_steps == 0) write_snapshot();
    if (signal == 0) return;
    stage_.events().write("stopped", {{"signal", signal}, {"step", position_.total}});
    throw StoppedEarly("train: stopped by signal " + std::to_string(signal) + " after step " +
                       std::to_string(position_.total) + "; a snapshot is written, the same command goes on there");
  }

  void report_epoch(double loss, double images_per_s) {
    stage_.events().write("epoch", {{"phase", position_.phase},
                                    {"epoch", position_.epoch + 1},
                                    {"epochs", phase_.epochs},
                                    {"loss", loss},
                                    {"images_per_s", images_per_s}});
    if (stage_.is_root())
      log_info("phase " + position_.phase + ", epoch " + std::to_string(position_.epoch + 1) + "/" +
               std::to_string(phase_.epochs) + ": loss " + std::to_string(loss));
  }

  void write_snapshot() {
    stage_.expect_current();
    if (stage_.is_root()) {
      const std::filesystem::path folder = stage_.workspace().snapshots_folder(stage_.key());
      const Snapshot written = filo::write_snapshot(
          folder, position_.total, [&](const std::filesystem::path& path) { save_tensors(path, system_.parameters()); },
          [&](const std::filesystem::path& path) { save_tensors(path, optimizer_.state()); },
          {{"phase", position_.phase},
           {"epoch", position_.epoch},
           {"step", position_.step},
           {"total", position_.total},
           {"world_size", communicator_.world_size()},
           {"seed", settings_.seed}});
      stage_.expect_current();
      prune_snapshots(folder, snapshots_kept);
      stage_.events().write("snapshot", {{"step", position_.total}, {"path", written.folder.filename().string()}});
    }
    communicator_.barrier();
  }

  Stage& stage_;
  const TrainSettings& settings_;
  System& system_;
  const TrainingPhase& phase_;
  Position& position_;
  Communicator& communicator_;
  EpochSampler sampler_;
  AdamW optimizer_;
  GradientExchange exchange_;
  std::unique_ptr<PhaseBatches> batches_;
};

// Puts a snapshot's parameters back and says where it was.
Position resume(Stage& stage, System& system, const Snapshot& snapshot) {
  const Position position = {snapshot.state.at("phase"), snapshot.state.at("epoch"), snapshot.state.at("step"),
                             snapshot.state.at("total")};
  system.load_parameters(load_tensors(snapshot.params()), snapshot.params().string());
  stage.events().write("resumed", {{"snapshot", snapshot.folder.filename().string()}, {"step", position.total}});
  return position;
}

}  // namespace

void train(Stage& stage, const TrainSettings& settings, System& system, const ShardReader& reader,
           const std::vector<ImageBoxes>& boxes) {
  const std::vector<TrainingPhase> phases = system.training_phases(settings);
  std::optional<Snapshot> snapshot = newest_valid_snapshot(stage.workspace().snapshots_folder(stage.key()));
  Position position{.phase = phases.front().name};
  if (snapshot) position = resume(stage, system, *snapshot);
  auto phase = std::ranges::find(phases, position.phase, &TrainingPhase::name);
  if (phase == phases.end())
    throw Error("train: " + snapshot->folder.string(), "is of phase " + position.phase + ", which is not trained here");
  while (true) {
    // A phase has a seed of its own, so that its shuffles do not repeat another's.
    const std::uint64_t seed = settings.seed * phases.size() + static_cast<std::uint64_t>(phase - phases.begin());
    if (phase->epochs > 0) PhaseLoop(stage, settings, system, *phase, seed, reader, boxes, position, snapshot).run();
    if (++phase == phases.end()) return;
    position = {.phase = phase->name, .total = position.total};
    snapshot.reset();
  }
}

}  // namespace filo
