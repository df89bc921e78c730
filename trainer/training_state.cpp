#include "trainer/training_state.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"
#include "cluster/agreement.hpp"
#include "trainer/gradients.hpp"

namespace filo {
namespace {

// On rank 0: the newest snapshot that is whole, of a phase of these, and finite.
struct ReadPoint {
  ResumePoint point;
  TensorMap parameters;
};
std::optional<ReadPoint> newest_usable(Stage& stage, const std::vector<TrainingPhase>& phases) {
  std::optional<ReadPoint> read;
  newest_valid_snapshot(
      stage.workspace().snapshots_folder(stage.key()),
      [&](const Snapshot& snapshot) {
        const std::string where = "snapshot: " + snapshot.folder.string();
        try {
          read = ReadPoint{.point = {.snapshot = snapshot.folder.filename().string(),
                                     .position = position_from_json(snapshot.state),
                                     .optimizer = load_tensors(snapshot.optimizer())},
                           .parameters = load_tensors(snapshot.params())};
        } catch (const Json::exception& error) {
          throw Error(where, "state.json is of another form: " + told(error));
        }
        const std::string phase = read->point.position.phase;
        const bool known = std::ranges::find(phases, phase, &TrainingPhase::name) != phases.end();
        const bool finite = std::isfinite(norm_of(read->parameters));
        if (known && finite) return;
        read.reset();
        throw Error(where, known ? "holds parameters that are not finite"
                                 : "is of phase " + phase + ", which is not trained here");
      },
      [&](const std::filesystem::path& folder, const std::string& why) {
        stage.events().write("unusable", {{"snapshot", folder.filename().string()}, {"reason", why}});
      });
  return read;
}

// Rank 0's `parameters` into every rank's system.
void share_parameters(Stage& stage, System& system, TensorMap parameters, const std::string& where) {
  if (stage.is_root()) system.load_parameters(parameters, where);  // says which tensor does not fit
  if (!stage.is_root()) parameters = system.parameters();
  broadcast_tensors(stage.communicator(), parameters);
  if (!stage.is_root()) system.load_parameters(parameters, "the parameters of rank 0");
}

TensorMap copy_of(const TensorMap& tensors) {
  const torch::NoGradGuard no_grad;
  TensorMap copies;
  for (const auto& [name, tensor] : tensors)
    copies[name] = tensor.detach().to(torch::kCPU, /*non_blocking=*/false, /*copy=*/true);
  return copies;
}

}  // namespace

void Position::begin_epoch(int number) {
  epoch = number, step = 0, loss_sum = 0, images = 0;
  validation = {};
}

Json to_json(const Position& position) {
  Json state = {{"phase", position.phase},
                {"epoch", position.epoch},
                {"step", position.step},
                {"total", position.total},
                {"epoch_loss_sum", position.loss_sum},
                {"epoch_images", position.images}};
  if (!position.validation.is_null()) state["validation"] = position.validation;
  if (position.best) state["best"] = *position.best;
  if (position.best_total > 0) state["best_total"] = position.best_total;
  if (position.since_best > 0) state["since_best"] = position.since_best;
  return state;
}

Position position_from_json(const Json& state) {
  Position position{.phase = state.at("phase"),
                    .epoch = state.at("epoch"),
                    .step = state.at("step"),
                    .total = state.at("total"),
                    .loss_sum = state.value("epoch_loss_sum", 0.0),
                    .images = state.value("epoch_images", 0.0),
                    .validation = state.value("validation", Json()),
                    .best = {},
                    .best_total = state.value("best_total", std::int64_t{0}),
                    .since_best = state.value("since_best", 0)};
  if (state.contains("best")) position.best = state.at("best").get<double>();
  return position;
}

std::optional<ResumePoint> resume(Stage& stage, System& system, const std::vector<TrainingPhase>& phases) {
  stage.at("the newest snapshot");
  std::optional<ReadPoint> read;
  if (stage.is_root()) read = newest_usable(stage, phases);
  Json chosen;
  if (read) chosen = {{"snapshot", read->point.snapshot}, {"position", to_json(read->point.position)}};
  chosen = Json::parse(broadcast_text(stage.communicator(), chosen.dump()));
  if (chosen.is_null()) return std::nullopt;
  ResumePoint point{.snapshot = chosen.at("snapshot"),
                    .position = position_from_json(chosen.at("position")),
                    .optimizer = read ? std::move(read->point.optimizer) : TensorMap{}};
  share_parameters(stage, system, read ? std::move(read->parameters) : TensorMap{}, point.snapshot);
  stage.events().write("resumed", {{"snapshot", point.snapshot}, {"step", point.position.total}});
  return point;
}

void load_parameters_of(Stage& stage, System& system, std::int64_t total) {
  TensorMap parameters;
  std::string where;
  if (stage.is_root()) {
    const Snapshot snapshot = snapshot_at(stage.workspace().snapshots_folder(stage.key()), total);
    where = snapshot.folder.string();
    parameters = load_tensors(snapshot.params());
  }
  share_parameters(stage, system, std::move(parameters), where);
}

bool SnapshotWriter::busy() const {
  return writing_.valid() && writing_.wait_for(std::chrono::seconds(0)) != std::future_status::ready;
}

bool SnapshotWriter::time_is_up() const {
  return settings_.every_minutes > 0 &&
         Clock::now() - begun_ >= std::chrono::duration<double, std::ratio<60>>(settings_.every_minutes);
}

void SnapshotWriter::begin(const Position& position, const Json& more, const TensorMap& parameters,
                           const TensorMap& optimizer) {
  stage_.expect_current();
  if (!stage_.is_root()) return;
  wait();
  begun_ = Clock::now();
  Json state = to_json(position);
  state.update(more);
  writing_ = std::async(std::launch::async, [this, position, state, parameters = copy_of(parameters),
                                             optimizer = copy_of(optimizer)] {
    if (!std::isfinite(norm_of(parameters)))
      throw Error("train: phase " + position.phase + ", step " + std::to_string(position.total),
                  "the parameters are not finite, and no snapshot is written; the last good one is " +
                      (newest_.empty() ? "none" : newest_) + "; expected numbers: lower the learning rates");
    const std::filesystem::path folder = stage_.workspace().snapshots_folder(stage_.key());
    Snapshot written = write_snapshot(
        folder, position.total,
        [&](const std::filesystem::path& path, Sha256& digest) { save_tensors(path, parameters, {}, &digest); },
        [&](const std::filesystem::path& path, Sha256& digest) { save_tensors(path, optimizer, {}, &digest); }, state);
    stage_.expect_current();
    prune_snapshots(folder, position.total, static_cast<std::size_t>(settings_.keep), position.best_total);
    return written;
  });
}

void SnapshotWriter::look() {
  if (writing_.valid() && !busy()) wait();
}

void SnapshotWriter::wait() {
  if (!writing_.valid()) return;
  const Snapshot written = writing_.get();
  newest_ = written.folder.filename().string();
  stage_.events().write("snapshot", {{"step", written.step}, {"path", newest_}});
}

}  // namespace filo
