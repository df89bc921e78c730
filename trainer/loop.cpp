#include "trainer/loop.hpp"

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <set>

#include "base/error.hpp"
#include "base/log.hpp"
#include "base/signals.hpp"
#include "cluster/agreement.hpp"
#include "cluster/ranges.hpp"
#include "data/sampler.hpp"
#include "data/samples/samples.hpp"
#include "data/split.hpp"
#include "trainer/gradients.hpp"
#include "trainer/metrics.hpp"
#include "trainer/optimizer.hpp"
#include "trainer/phase_batches.hpp"
#include "trainer/training_state.hpp"

namespace filo {
namespace {

constexpr int most_skipped_in_a_row = 10;
constexpr std::size_t most_images_named = 8;

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Where the time of a step goes, in seconds; on Nsight's timeline too.
class StepTimes {
 public:
  void begin() { parts_ = {}, started_ = last_ = Clock::now(); }
  // From here on, up to the next part or end().
  void enter(const char* part) {
    end();
    part_ = part;
    open_range(part);
  }
  void end() {
    const Clock::time_point now = Clock::now();
    if (part_ != nullptr) {
      parts_[part_] += std::chrono::duration<double>(now - last_).count();
      close_range();
    }
    last_ = now;
    part_ = nullptr;
  }
  double total() const { return seconds_since(started_); }
  const std::map<std::string, double>& parts() const { return parts_; }

 private:
  std::map<std::string, double> parts_;
  const char* part_ = nullptr;
  Clock::time_point started_, last_;
};

AdamWOptions optimizer_options(const TrainSettings& settings) {
  AdamWOptions options;
  options.weight_decay = settings.weight_decay;
  return options;
}

bool is_mosaic(const SampleInfo& sample) { return sample.parts.size() > 1; }

// What is trained on: samples of images that are not validated on, and the mosaics of such images.
struct TrainingSplit : Split {
  std::vector<std::size_t> mosaics;
};

// An image's samples stay together.
TrainingSplit split_of(const ShardReader& reader, const TrainSettings& settings) {
  std::vector<std::string> strata;                                     // of the images
  std::vector<std::vector<std::size_t>> samples;                       // likewise
  std::map<std::pair<std::size_t, std::string>, std::size_t> numbers;  // of the images, by folder and path
  std::size_t unknown = 0;
  for (std::size_t i = 0; i < reader.size(); ++i) {
    const SampleInfo& info = reader.info(i);
    if (is_mosaic(info)) continue;
    if (!is_label_known(info)) {
      ++unknown;
      continue;
    }
    const auto [image, is_new] = numbers.emplace(std::pair(info.folder, images_of(info).front()), samples.size());
    if (is_new) samples.emplace_back(), strata.emplace_back(info.class_name + " 0");
    samples[image->second].push_back(i);
    if (info.label == 1) strata[image->second] = info.class_name + " 1";
  }
  if (unknown > 0)
    log_warning("train: " + std::to_string(unknown) +
                " tiles of anomalous images without masks are left out: whether they show the defect is not known");
  const Split images = split_samples(strata, settings.validation.fraction, settings.seed);
  TrainingSplit split;
  const auto add = [&](std::vector<std::size_t>& to, const std::vector<std::size_t>& of_images) {
    for (const std::size_t image : of_images) to.insert(to.end(), samples[image].begin(), samples[image].end());
    std::ranges::sort(to);
  };
  add(split.train, images.train);
  add(split.validation, images.validation);
  std::set<std::string> held;
  for (const std::size_t sample : split.validation) held.insert(images_of(reader.info(sample)).front());
  for (std::size_t i = 0; i < reader.size(); ++i) {
    const SampleInfo& info = reader.info(i);
    const auto is_held = [&](const std::string& path) { return held.contains(path); };
    if (is_mosaic(info) && is_label_known(info) && std::ranges::none_of(images_of(info), is_held))
      split.mosaics.push_back(i);
  }
  return split;
}

// What a phase learns from and is validated on: a loss of maps needs to know which pixels are anomalous.
TrainingSplit split_of_phase(TrainingSplit split, const TrainingPhase& phase, const ShardReader& reader) {
  if (!phase.patches) return split;
  const auto is_unmasked = [&](std::size_t sample) { return !reader.info(sample).masked; };
  for (auto* samples : {&split.train, &split.validation, &split.mosaics}) std::erase_if(*samples, is_unmasked);
  if (split.train.empty())
    throw UsageError("train: phase " + phase.name,
                     "found no image with a mask among the training images, expected some: its loss is one of maps");
  return split;
}

// What an epoch takes of the split's training samples, and which mosaics of a class stand in for its samples.
Samples samples_of(const TrainingSplit& split, const TrainSettings& settings, const ShardReader& reader) {
  Samples samples{.count = split.train.size()};
  std::map<std::string, std::size_t> numbers;
  const auto number_of = [&](const std::string& name) { return numbers.emplace(name, numbers.size()).first->second; };
  std::map<std::string, std::vector<std::size_t>> mosaics;  // of a class
  for (std::size_t i = 0; i < split.mosaics.size(); ++i)
    mosaics[reader.info(split.mosaics[i]).class_name].push_back(split.train.size() + i);
  for (const std::size_t index : split.train) {
    const SampleInfo& info = reader.info(index);
    const std::string kind = info.class_name + (settings.balance == Balance::defects ? "/" + info.defect : "");
    if (settings.balance != Balance::none) samples.kinds.push_back(number_of("kind " + kind));
    if (settings.grouped) samples.groups.push_back(number_of("group " + info.class_name));
    if (settings.mosaic.rate > 0) samples.substitutes.push_back(mosaics[info.class_name]);
  }
  samples.substitution = settings.mosaic.rate;
  return samples;
}

// "prompts" of "prompts.normal.vectors".
std::string first_word(const std::string& name) { return name.substr(0, name.find('.')); }

// The first place is the loss, the others the phase's terms; sums over images.
using LossSums = std::vector<double>;

class PhaseLoop {
 public:
  // `from`: to go on from, its parameters are in the system already; none: the phase begins.
  PhaseLoop(Stage& stage, const TrainSettings& settings, System& system, const TrainingPhase& phase, std::uint64_t seed,
            const ShardReader& reader, const TrainingSplit& all, const std::vector<ImageBoxes>& boxes,
            Position& position, const std::optional<ResumePoint>& from)
      : stage_(stage),
        settings_(settings),
        system_(system),
        phase_(phase),
        position_(position),
        communicator_(stage.communicator()),
        reader_(reader),
        split_(split_of_phase(all, phase, reader)),
        boxes_(boxes),
        sampler_(samples_of(split_, settings, reader), static_cast<std::size_t>(settings.batch_size),
                 communicator_.rank(), communicator_.world_size(), seed),
        optimizer_(system.parameters(), phase.groups, optimizer_options(settings)),
        exchange_(stage.gradient_communicator(), system.parameters(), names_of(phase.groups), settings.gradients),
        snapshots_(stage, settings.snapshots) {
    if (from) {
      take_optimizer_state(*from);
      verify("after snapshot " + from->snapshot);
      snapshots_.set_newest(from->snapshot);
    }
    batches_ = make_phase_batches(stage, phase, system, reader, boxes);
  }

  void run() {
    for (; position_.epoch < phase_.epochs; position_.begin_epoch(position_.epoch + 1))
      if (run_epoch()) break;
    stage_.at("phase " + position_.phase + ": its last snapshot");
    snapshots_.wait();
    communicator_.barrier();  // the next phase's snapshots replace this one's
    if (settings_.snapshots.best_by != BestBy::none && position_.best_total != position_.total) take_best();
  }

 private:
  // Whether the phase is to end with it.
  bool run_epoch() {
    batches_->begin_epoch(batches_of_epoch());
    const Clock::time_point started = Clock::now();
    double images_here = 0;  // since this start
    bool changed = position_.step < sampler_.steps_per_epoch();
    while (position_.step < sampler_.steps_per_epoch()) {
      images_here += static_cast<double>(images_of_step());
      run_step();
    }
    const double images_per_s = images_here / seconds_since(started);
    if (validation_is_due() && position_.validation.is_null()) {
      validate();
      changed = true;
    }
    if (changed) write_snapshot();
    // Told again where a training goes on from an epoch's last snapshot: it may have died before it told.
    if (position_.images > 0) report_epoch(images_per_s);
    return settings_.patience > 0 && position_.since_best >= settings_.patience;
  }

  // This rank's, from the next step on.
  std::vector<std::vector<std::size_t>> batches_of_epoch() const {
    std::vector<std::vector<std::size_t>> batches;
    for (std::size_t step = position_.step; step < sampler_.steps_per_epoch(); ++step)
      for (auto& piece : pieces_of_step(sampler_.local_batch(position_.epoch, step)))
        batches.push_back(std::move(piece));
    return batches;
  }

  // What goes through forward and backward at once; indices of the reader.
  std::vector<std::vector<std::size_t>> pieces_of_step(const std::vector<std::size_t>& samples) const {
    const std::size_t at_once =
        settings_.micro_batch_size > 0 ? static_cast<std::size_t>(settings_.micro_batch_size) : samples.size();
    return pieces_of(indices(samples), at_once);
  }

  // Of the reader, in place of those of the split.
  std::vector<std::size_t> indices(std::vector<std::size_t> samples) const {
    for (std::size_t& sample : samples) {
      const std::size_t trained = split_.train.size();
      sample = sample < trained ? split_.train[sample] : split_.mosaics[sample - trained];
    }
    return samples;
  }

  void take_optimizer_state(const ResumePoint& from) {
    TensorMap state = stage_.is_root() ? from.optimizer : optimizer_.state();
    if (stage_.is_root()) optimizer_.load_state(state, from.snapshot);
    broadcast_tensors(communicator_, state);
    if (!stage_.is_root()) optimizer_.load_state(state, "the optimiser's state of rank 0");
  }

  void verify(const std::string& when) const {
    const std::string where = "train: phase " + position_.phase + ", " + when;
    expect_equal_on_all_ranks(communicator_, system_.parameters(), where);
    expect_equal_on_all_ranks(communicator_, optimizer_.state(), where);
  }

  std::size_t images_of_step() const { return sampler_.global_batch(position_.epoch, position_.step).size(); }

  std::int64_t steps_of_phase() const {
    return static_cast<std::int64_t>(sampler_.steps_per_epoch()) * static_cast<std::int64_t>(phase_.epochs);
  }
  // Of the learning rates, at the next step.
  double rate_factor() const {
    const auto done = static_cast<std::int64_t>(sampler_.steps_per_epoch()) * position_.epoch +
                      static_cast<std::int64_t>(position_.step);
    return schedule_factor(settings_.schedule, settings_.warmup_steps, done, steps_of_phase());
  }

  // The same on every rank.
  void run_step() {
    times_.begin();
    times_.enter("other");
    const auto images = static_cast<double>(images_of_step());
    const std::string step = "phase " + position_.phase + ", step " + std::to_string(position_.total + 1);
    stage_.at(step + ": forward and backward");
    LossSums sums = compute(pieces_of_step(sampler_.local_batch(position_.epoch, position_.step)), images);
    stage_.at(step + ": the sum of the gradients");
    times_.enter("all_reduce");
    const TensorMap& gradients = exchange_.finish();  // summed over the ranks
    communicator_.all_reduce_sum(sums.data(), sums.size());
    times_.enter("optimizer");
    const double gradient_norm = norm_of(gradients);
    const double factor = rate_factor();
    const bool finite = std::isfinite(sums[0]) && std::isfinite(gradient_norm);  // the same bits on every rank
    if (finite) {
      clip(gradients, gradient_norm);
      optimizer_.step(gradients, factor);
      position_.loss_sum += sums[0];
      position_.images += images;
      skipped_in_a_row_ = 0;
    } else {
      skip_step(sums[0] / images);
    }
    times_.end();
    ++position_.step;
    ++position_.total;
    if (finite) report_step(sums, images, gradient_norm, factor);
    end_step();
  }

  // As torch.nn.utils.clip_grad_norm_().
  void clip(const TensorMap& gradients, double norm) const {
    if (settings_.clip_gradient_norm <= 0 || norm <= settings_.clip_gradient_norm) return;
    for (const auto& [name, gradient] : gradients) gradient.mul_(settings_.clip_gradient_norm / (norm + 1e-6));
  }

  // Nothing of it reaches the parameters; by default that is the end.
  void skip_step(double loss) {
    const auto batch = indices(sampler_.global_batch(position_.epoch, position_.step));
    Json names = Json::array();
    for (std::size_t i = 0; i < std::min(batch.size(), most_images_named); ++i)
      names.push_back(reader_.info(batch[i]).image);
    const std::string what = std::isfinite(loss) ? "the gradients are not finite" : "the loss is not finite";
    stage_.events().write(
        "skipped", {{"phase", position_.phase}, {"step", position_.total + 1}, {"reason", what}, {"images", names}});
    const bool too_often = ++skipped_in_a_row_ >= most_skipped_in_a_row;
    if (settings_.on_not_finite == OnNotFinite::skip && !too_often) return;
    snapshots_.wait();
    const std::string& newest = snapshots_.newest();
    throw Error("train: phase " + position_.phase + ", step " + std::to_string(position_.total + 1),
                what + (too_often ? ", for the " + std::to_string(skipped_in_a_row_) + "th step in a row" : "") +
                    ", with the images " + names.dump() + (batch.size() > names.size() ? " and others" : "") +
                    "; the last good snapshot is " + (newest.empty() ? "none" : newest) +
                    "; expected numbers: lower the learning rates, check these images, or pass over such steps "
                    "(train.on_not_finite: skip)");
  }

  // Forward and backward on this rank's samples, which may be none; the gradients are added up piece by piece.
  LossSums compute(const std::vector<std::vector<std::size_t>>& pieces, double global_images) {
    LossSums sums(1 + phase_.loss_terms.size());
    exchange_.begin();
    for (const auto& piece : pieces) {
      times_.enter("read");
      const FeatureBatch batch = batches_->take(piece);
      times_.enter("forward");
      const Losses losses = losses_of(batch);
      times_.enter("backward");
      const auto images = static_cast<double>(piece.size());
      if (&piece == &pieces.back()) exchange_.expect_last_backward();
      (losses.total * (images / global_images)).backward();  // the ranks' sum is the mean over the global batch
      add(sums, losses, images);
    }
    return sums;
  }

  Losses losses_of(const FeatureBatch& batch) const {
    TrainingOptions options;
    options.precision = settings_.precision;
    const ForwardOutput output = system_.train_forward(phase_, batch.images, options);
    return system_.losses(phase_, output, batch.masks, batch.labels);  // the maps are not needed on the way back
  }

  static void add(LossSums& sums, const Losses& losses, double images) {
    sums[0] += losses.total.item<double>() * images;
    for (std::size_t i = 0; i < losses.terms.size(); ++i) sums[1 + i] += losses.terms[i].item<double>() * images;
  }

  Json means(const LossSums& sums, double images) const {
    Json terms = Json::object();
    for (std::size_t i = 0; i < phase_.loss_terms.size(); ++i) terms[phase_.loss_terms[i]] = sums[1 + i] / images;
    return terms;
  }

  void report_step(const LossSums& sums, double images, double gradient_norm, double factor) {
    if (!stage_.is_root()) return;
    Json fields = {{"phase", position_.phase},
                   {"epoch", position_.epoch + 1},
                   {"epochs", phase_.epochs},
                   {"step", position_.total},
                   {"epoch_step", position_.step},
                   {"steps", sampler_.steps_per_epoch()},
                   {"loss", sums[0] / images},
                   {"gradient_norm", gradient_norm},
                   {"images_per_s", images / times_.total()},
                   {"seconds", times_.parts()},
                   {"memory_bytes", resident_memory_bytes()}};
    if (!phase_.loss_terms.empty()) fields["losses"] = means(sums, images);
    for (const ParameterGroup& group : phase_.groups)
      if (!group.names.empty())
        fields["learning_rates"][first_word(group.names.front())] = group.learning_rate * factor;
    stage_.events().write("step", fields);
  }

  // All ranks stop at the same step or none does.
  void end_step() {
    const int signal = agree_stop(communicator_, stop_requested());
    if (settings_.verify_every_steps > 0 && position_.total % settings_.verify_every_steps == 0)
      verify("step " + std::to_string(position_.total));
    if (signal != 0) stop(signal);
    snapshots_.look();
    snapshot_is_due_ |= position_.total % settings_.snapshots.every_steps == 0 || snapshots_.time_is_up();
    // While one is being written the next waits for a later step; an epoch's end has its own.
    if (snapshot_is_due_ && !snapshots_.busy() && position_.step < sampler_.steps_per_epoch()) write_snapshot();
  }

  [[noreturn]] void stop(int signal) {
    stage_.at("phase " + position_.phase + ", step " + std::to_string(position_.total) + ": the last snapshot");
    write_snapshot();
    snapshots_.wait();
    communicator_.barrier();  // whoever leaves first ends the others
    stage_.events().write("stopped", {{"signal", signal}, {"step", position_.total}});
    throw StoppedEarly("train: stopped by signal " + std::to_string(signal) + " after step " +
                       std::to_string(position_.total) + "; a snapshot is written, the same command goes on there");
  }

  void write_snapshot() {
    if (!stage_.is_root()) return;
    snapshot_is_due_ = false;
    snapshots_.begin(position_, {{"world_size", communicator_.world_size()}, {"seed", settings_.seed}},
                     system_.parameters(), optimizer_.state());
  }

  bool validation_is_due() const {
    if (split_.validation.empty()) return false;
    return (position_.epoch + 1) % settings_.validation.every_epochs == 0 || position_.epoch + 1 == phase_.epochs;
  }

  // The phase's loss on the images that are held back, and what the best is chosen by. Each rank has its share of them.
  void validate() {
    const torch::NoGradGuard no_grad;
    const auto ranks = static_cast<std::size_t>(communicator_.world_size());
    std::vector<std::size_t> mine;
    for (auto i = static_cast<std::size_t>(communicator_.rank()); i < split_.validation.size(); i += ranks)
      mine.push_back(split_.validation[i]);
    const std::size_t at_once = std::max<std::size_t>(static_cast<std::size_t>(settings_.batch_size) / ranks, 1);
    const bool by_auroc = settings_.snapshots.best_by == BestBy::validation_image_auroc;
    // Scores are of whole samples, which a phase on held vectors does not read.
    const auto whole = by_auroc && !phase_.patches ? stream_batches(stage_, reader_, boxes_) : nullptr;
    const auto pieces = pieces_of(mine, at_once);
    batches_->begin_epoch(pieces);
    if (whole) whole->begin_epoch(pieces);
    stage_.at("phase " + position_.phase + ", epoch " + std::to_string(position_.epoch + 1) + ": validation");
    LossSums sums(1 + phase_.loss_terms.size());
    Json scored = Json::array();
    for (const auto& piece : pieces) {
      const FeatureBatch batch = batches_->take(piece);
      add(sums, losses_of(batch), static_cast<double>(piece.size()));
      if (by_auroc) add_scores(scored, piece, whole ? whole->take(piece).images : batch.images);
    }
    communicator_.all_reduce_sum(sums.data(), sums.size());
    const auto images = static_cast<double>(split_.validation.size());
    position_.validation = {{"validation_loss", sums[0] / images}};
    if (by_auroc) position_.validation["validation_image_auroc"] = auroc_of_all(scored);
    judge();
  }

  // The score that an evaluation gives each image, and its label.
  void add_scores(Json& scored, const std::vector<std::size_t>& samples, const ImageBatch& images) const {
    const torch::Tensor scores = system_.test_forward(images).score.to(torch::kCPU, torch::kFloat);
    for (std::size_t i = 0; i < samples.size(); ++i)
      scored.push_back({scores[static_cast<std::int64_t>(i)].item<float>(), reader_.info(samples[i]).label});
  }

  // Over all ranks; null where the images are of one kind.
  Json auroc_of_all(const Json& scored) const {
    Json area;
    const auto all = communicator_.gather_bytes(scored.dump());
    if (stage_.is_root()) {
      std::vector<float> scores;
      std::vector<std::uint8_t> labels;
      for (const std::string& of_rank : all)
        for (const Json& one : Json::parse(of_rank)) {
          scores.push_back(one.at(0).get<float>());
          labels.push_back(one.at(1).get<std::uint8_t>());
        }
      if (const double found = binary_metrics(scores, labels).auroc; std::isfinite(found)) area = found;
    }
    return Json::parse(broadcast_text(communicator_, area.dump()));
  }

  // Whether this validation is the phase's best so far. What is not a number is none.
  void judge() {
    if (settings_.snapshots.best_by == BestBy::none) return;
    const bool by_loss = settings_.snapshots.best_by == BestBy::validation_loss;
    const Json value = position_.validation.at(by_loss ? "validation_loss" : "validation_image_auroc");
    ++position_.since_best;
    if (!value.is_number() || !std::isfinite(value.get<double>())) return;
    const auto found = value.get<double>();
    if (position_.best && (by_loss ? found >= *position_.best : found <= *position_.best)) return;
    position_.best = found;
    position_.best_total = position_.total;
    position_.since_best = 0;
  }

  // The phase ends with the parameters of its best validation; with its last ones where none was a number.
  void take_best() {
    if (position_.best_total == 0) return;
    load_parameters_of(stage_, system_, position_.best_total);
    stage_.events().write("best",
                          {{"phase", position_.phase}, {"step", position_.best_total}, {"value", *position_.best}});
    if (stage_.is_root())
      log_info("phase " + position_.phase + " ends with the parameters after step " +
               std::to_string(position_.best_total) + ", its best validation");
  }

  void report_epoch(double images_per_s) {
    if (!stage_.is_root()) return;
    const double loss = position_.loss_sum / position_.images;
    Json fields = {
        {"phase", position_.phase}, {"epoch", position_.epoch + 1}, {"epochs", phase_.epochs}, {"loss", loss}};
    if (images_per_s > 0) fields["images_per_s"] = images_per_s;
    if (!position_.validation.is_null()) fields.update(position_.validation);
    stage_.events().write("epoch", fields);
    std::string text = "phase " + position_.phase + ", epoch " + std::to_string(position_.epoch + 1) + "/" +
                       std::to_string(phase_.epochs) + ": loss " + std::to_string(loss);
    for (const auto& [name, value] : position_.validation.items()) text += ", " + name + " " + value.dump();
    log_info(text);
  }

  Stage& stage_;
  const TrainSettings& settings_;
  System& system_;
  const TrainingPhase& phase_;
  Position& position_;
  Communicator& communicator_;
  const ShardReader& reader_;
  const TrainingSplit split_;
  const std::vector<ImageBoxes>& boxes_;
  EpochSampler sampler_;
  AdamW optimizer_;
  GradientExchange exchange_;
  std::unique_ptr<PhaseBatches> batches_;
  StepTimes times_;
  bool snapshot_is_due_ = false;
  int skipped_in_a_row_ = 0;
  SnapshotWriter snapshots_;
};

}  // namespace

void train(Stage& stage, const TrainSettings& settings, System& system, const ShardReader& reader,
           const std::vector<ImageBoxes>& boxes) {
  const std::vector<TrainingPhase> phases = system.training_phases(settings);
  const TrainingSplit split = split_of(reader, settings);
  std::optional<ResumePoint> from = resume(stage, system, phases);
  Position position{.phase = phases.front().name, .validation = {}, .best = {}};
  if (from) position = from->position;
  auto phase = std::ranges::find(phases, position.phase, &TrainingPhase::name);
  while (true) {
    // A phase has a seed of its own, so that its shuffles do not repeat another's.
    const std::uint64_t seed = settings.seed * phases.size() + static_cast<std::uint64_t>(phase - phases.begin());
    if (phase->epochs > 0) PhaseLoop(stage, settings, system, *phase, seed, reader, split, boxes, position, from).run();
    if (++phase == phases.end()) return;
    position = {.phase = phase->name, .total = position.total, .validation = {}, .best = {}};
    from.reset();
  }
}

}  // namespace filo
