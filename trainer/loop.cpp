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
constexpr int most_skipped_in_a_row = 10;
constexpr std::size_t most_images_named = 8;

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Where a run is: everything a resume needs beside parameters and optimiser state.
struct Position {
  std::string phase;
  int epoch = 0;           // of the phase
  std::size_t step = 0;    // of the epoch: the next one to do
  std::int64_t total = 0;  // steps done over all phases
  double loss_sum = 0;     // of the epoch's steps so far, over `images`
  double images = 0;

  void begin_epoch(int number) { epoch = number, step = 0, loss_sum = 0, images = 0; }
};

Json to_json(const Position& position) {
  return {{"phase", position.phase},
          {"epoch", position.epoch},
          {"step", position.step},
          {"total", position.total},
          {"epoch_loss_sum", position.loss_sum},
          {"epoch_images", position.images}};
}

// Throws Json::exception. Snapshots of former versions lack the sums.
Position position_of(const Json& state) {
  return {state.at("phase"),
          state.at("epoch"),
          state.at("step"),
          state.at("total"),
          state.value("epoch_loss_sum", 0.0),
          state.value("epoch_images", 0.0)};
}

// Where a training goes on; rank 0 has read it, all have it.
struct ResumePoint {
  std::string snapshot;  // its folder's name
  Position position;
  TensorMap parameters, optimizer;  // rank 0's alone
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
  // `from`: to go on from, its parameters are in the system already; none: the phase begins.
  PhaseLoop(Stage& stage, const TrainSettings& settings, System& system, const TrainingPhase& phase, std::uint64_t seed,
            const ShardReader& reader, const std::vector<ImageBoxes>& boxes, Position& position,
            const std::optional<ResumePoint>& from)
      : stage_(stage),
        settings_(settings),
        system_(system),
        phase_(phase),
        position_(position),
        communicator_(stage.communicator()),
        reader_(reader),
        sampler_(reader.size(), static_cast<std::size_t>(settings.batch_size), communicator_.rank(),
                 communicator_.world_size(), seed),
        optimizer_(system.parameters(), phase.groups),
        exchange_(stage.gradient_communicator(), system.parameters(), names_of(phase)) {
    if (from) {
      take_optimizer_state(*from);
      verify("after snapshot " + from->snapshot);
      last_snapshot_ = from->snapshot;
    }
    batches_ = make_phase_batches(phase, system, reader, boxes, communicator_);
  }

  void run() {
    for (; position_.epoch < phase_.epochs; position_.begin_epoch(position_.epoch + 1)) run_epoch();
  }

 private:
  void run_epoch() {
    batches_->begin_epoch(sampler_.local_order(position_.epoch, position_.step));
    const Clock::time_point started = Clock::now();
    double images_here = 0;  // since this start
    while (position_.step < sampler_.steps_per_epoch()) {
      images_here += static_cast<double>(images_of_step());
      run_step();
    }
    // Told again where a training goes on from an epoch's last snapshot: it may have died before it told.
    if (position_.images > 0) report_epoch(images_here / seconds_since(started));
  }

  void take_optimizer_state(const ResumePoint& from) {
    TensorMap state = stage_.is_root() ? from.optimizer : optimizer_.state();
    if (stage_.is_root()) optimizer_.load_state(state, from.snapshot);
    for (auto& [name, tensor] : state) tensor = tensor.to(torch::kCPU).contiguous();
    broadcast_tensors(communicator_, state);
    if (!stage_.is_root()) optimizer_.load_state(state, "the optimiser's state of rank 0");
  }

  void verify(const std::string& when) const {
    const std::string where = "train: phase " + position_.phase + ", " + when;
    expect_equal_on_all_ranks(communicator_, system_.parameters(), where);
    expect_equal_on_all_ranks(communicator_, optimizer_.state(), where);
  }

  std::size_t images_of_step() const { return sampler_.global_batch(position_.epoch, position_.step).size(); }

  // The same on every rank.
  void run_step() {
    const Clock::time_point started = Clock::now();
    const auto images = static_cast<double>(images_of_step());
    LossSums sums = compute(sampler_.local_batch(position_.epoch, position_.step), images);
    const TensorMap gradients = exchange_.finish();  // summed over the ranks
    communicator_.all_reduce_sum(sums.data(), sums.size());
    const double gradient_norm = norm_of(gradients);
    const bool finite = !any_rank(communicator_, !std::isfinite(sums[0]) || !std::isfinite(gradient_norm));
    if (finite) {
      optimizer_.step(gradients);
      position_.loss_sum += sums[0];
      position_.images += images;
      skipped_in_a_row_ = 0;
    } else {
      skip_step(sums[0] / images);
    }
    ++position_.step;
    ++position_.total;
    if (finite) report_step(sums, images, gradient_norm, started);
    end_step();
  }

  // Nothing of it reaches the parameters; by default that is the end.
  void skip_step(double loss) {
    const auto batch = sampler_.global_batch(position_.epoch, position_.step);
    Json names = Json::array();
    for (std::size_t i = 0; i < std::min(batch.size(), most_images_named); ++i)
      names.push_back(reader_.info(batch[i]).image);
    const std::string what = std::isfinite(loss) ? "the gradients are not finite" : "the loss is not finite";
    stage_.events().write(
        "skipped", {{"phase", position_.phase}, {"step", position_.total + 1}, {"reason", what}, {"images", names}});
    const bool too_often = ++skipped_in_a_row_ >= most_skipped_in_a_row;
    if (settings_.on_not_finite == OnNotFinite::skip && !too_often) return;
    throw Error("train: phase " + position_.phase + ", step " + std::to_string(position_.total + 1),
                what + (too_often ? ", for the " + std::to_string(skipped_in_a_row_) + "th step in a row" : "") +
                    ", with the images " + names.dump() + (batch.size() > names.size() ? " and others" : "") +
                    "; the last good snapshot is " + (last_snapshot_.empty() ? "none" : last_snapshot_) +
                    "; expected numbers: lower the learning rates, check these images, or pass over such steps "
                    "(train.on_not_finite: skip)");
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

  void report_step(const LossSums& sums, double images, double gradient_norm, Clock::time_point started) {
    Json fields = {{"phase", position_.phase},
                   {"epoch", position_.epoch + 1},
                   {"epochs", phase_.epochs},
                   {"step", position_.total},
                   {"epoch_step", position_.step},
                   {"steps", sampler_.steps_per_epoch()},
                   {"loss", sums[0] / images},
                   {"gradient_norm", gradient_norm},
                   {"images_per_s", images / seconds_since(started)}};
    for (std::size_t i = 0; i < phase_.loss_terms.size(); ++i)
      fields["losses"][phase_.loss_terms[i]] = sums[1 + i] / images;
    stage_.events().write("step", fields);
  }

  // All ranks stop at the same step or none does.
  void end_step() {
    const int signal = agree_stop(communicator_, stop_requested());
    const bool phase_ends = position_.epoch + 1 == phase_.epochs && position_.step == sampler_.steps_per_epoch();
    if (settings_.verify_every_steps > 0 && position_.total % settings_.verify_every_steps == 0)
      verify("step " + std::to_string(position_.total));
    if (signal != 0 || phase_ends || position_.total % settings_.snapshot_every_steps == 0) write_snapshot();
    if (signal == 0) return;
    stage_.events().write("stopped", {{"signal", signal}, {"step", position_.total}});
    throw StoppedEarly("train: stopped by signal " + std::to_string(signal) + " after step " +
                       std::to_string(position_.total) + "; a snapshot is written, the same command goes on there");
  }

  void report_epoch(double images_per_s) {
    const double loss = position_.loss_sum / position_.images;
    Json fields = {
        {"phase", position_.phase}, {"epoch", position_.epoch + 1}, {"epochs", phase_.epochs}, {"loss", loss}};
    if (images_per_s > 0) fields["images_per_s"] = images_per_s;
    stage_.events().write("epoch", fields);
    if (stage_.is_root())
      log_info("phase " + position_.phase + ", epoch " + std::to_string(position_.epoch + 1) + "/" +
               std::to_string(phase_.epochs) + ": loss " + std::to_string(loss));
  }

  void write_snapshot() {
    stage_.expect_current();
    if (stage_.is_root()) {
      expect_finite();
      Json state = to_json(position_);
      state["world_size"] = communicator_.world_size();
      state["seed"] = settings_.seed;
      const std::filesystem::path folder = stage_.workspace().snapshots_folder(stage_.key());
      const Snapshot written = filo::write_snapshot(
          folder, position_.total, [&](const std::filesystem::path& path) { save_tensors(path, system_.parameters()); },
          [&](const std::filesystem::path& path) { save_tensors(path, optimizer_.state()); }, state);
      stage_.expect_current();
      prune_snapshots(folder, position_.total, snapshots_kept);
      last_snapshot_ = written.folder.filename().string();
      stage_.events().write("snapshot", {{"step", position_.total}, {"path", last_snapshot_}});
    }
    communicator_.barrier();
  }

  // What is not finite is never saved.
  void expect_finite() const {
    if (std::isfinite(norm_of(system_.parameters()))) return;
    throw Error("train: phase " + position_.phase + ", step " + std::to_string(position_.total),
                "the parameters are not finite, and no snapshot is written; the last good one is " +
                    (last_snapshot_.empty() ? "none" : last_snapshot_) +
                    "; expected numbers: lower the learning rates");
  }

  Stage& stage_;
  const TrainSettings& settings_;
  System& system_;
  const TrainingPhase& phase_;
  Position& position_;
  Communicator& communicator_;
  const ShardReader& reader_;
  EpochSampler sampler_;
  AdamW optimizer_;
  GradientExchange exchange_;
  std::unique_ptr<PhaseBatches> batches_;
  std::string last_snapshot_;  // on rank 0
  int skipped_in_a_row_ = 0;
};

// On rank 0: the newest snapshot that is whole, of a phase of these, and finite. Others are told in the events.
std::optional<ResumePoint> newest_usable(Stage& stage, const std::vector<TrainingPhase>& phases) {
  std::optional<ResumePoint> point;
  newest_valid_snapshot(
      stage.workspace().snapshots_folder(stage.key()),
      [&](const Snapshot& snapshot) {
        const std::string where = "snapshot: " + snapshot.folder.string();
        try {
          point = ResumePoint{.snapshot = snapshot.folder.filename().string(),
                              .position = position_of(snapshot.state),
                              .parameters = load_tensors(snapshot.params()),
                              .optimizer = load_tensors(snapshot.optimizer())};
        } catch (const Json::exception& error) {
          throw Error(where, "state.json is of another form: " + told(error));
        }
        const bool known = std::ranges::find(phases, point->position.phase, &TrainingPhase::name) != phases.end();
        const bool finite = std::isfinite(norm_of(point->parameters));
        if (known && finite) return;
        const std::string phase = point->position.phase;
        point.reset();
        throw Error(where, known ? "holds parameters that are not finite"
                                 : "is of phase " + phase + ", which is not trained here");
      },
      [&](const std::filesystem::path& folder, const std::string& why) {
        stage.events().write("unusable", {{"snapshot", folder.filename().string()}, {"reason", why}});
      });
  return point;
}

// Rank 0 chooses and reads; the others see no file of it, whatever their host's cache shows them.
std::optional<ResumePoint> resume(Stage& stage, System& system, const std::vector<TrainingPhase>& phases) {
  Communicator& communicator = stage.communicator();
  std::optional<ResumePoint> point;
  if (stage.is_root()) point = newest_usable(stage, phases);
  Json chosen;
  if (point) chosen = {{"snapshot", point->snapshot}, {"position", to_json(point->position)}};
  chosen = Json::parse(broadcast_text(communicator, chosen.dump()));
  if (chosen.is_null()) return std::nullopt;
  if (!point)
    point = ResumePoint{.snapshot = chosen.at("snapshot"),
                        .position = position_of(chosen.at("position")),
                        .parameters = {},
                        .optimizer = {}};
  TensorMap parameters = stage.is_root() ? point->parameters : system.parameters();
  if (stage.is_root()) system.load_parameters(parameters, point->snapshot);  // says which tensor does not fit
  for (auto& [name, tensor] : parameters) tensor = tensor.detach().to(torch::kCPU).contiguous();
  broadcast_tensors(communicator, parameters);
  if (!stage.is_root()) system.load_parameters(parameters, "the parameters of rank 0");
  stage.events().write("resumed", {{"snapshot", point->snapshot}, {"step", point->position.total}});
  return point;
}

}  // namespace

void train(Stage& stage, const TrainSettings& settings, System& system, const ShardReader& reader,
           const std::vector<ImageBoxes>& boxes) {
  const std::vector<TrainingPhase> phases = system.training_phases(settings);
  std::optional<ResumePoint> from = resume(stage, system, phases);
  Position position{.phase = phases.front().name};
  if (from) position = from->position;
  auto phase = std::ranges::find(phases, position.phase, &TrainingPhase::name);
  while (true) {
    // A phase has a seed of its own, so that its shuffles do not repeat another's.
    const std::uint64_t seed = settings.seed * phases.size() + static_cast<std::uint64_t>(phase - phases.begin());
    if (phase->epochs > 0) PhaseLoop(stage, settings, system, *phase, seed, reader, boxes, position, from).run();
    if (++phase == phases.end()) return;
    position = {.phase = phase->name, .total = position.total};
    from.reset();
  }
}

}  // namespace filo
