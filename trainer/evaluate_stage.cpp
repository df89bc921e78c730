#include <torch/torch.h>

#include <algorithm>
#include <deque>
#include <future>
#include <optional>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/log.hpp"
#include "base/signals.hpp"
#include "cluster/agreement.hpp"
#include "data/datasets/dataset.hpp"
#include "data/shards/prefetcher.hpp"
#include "model/systems/system.hpp"
#include "trainer/class_images.hpp"
#include "trainer/class_result.hpp"
#include "trainer/encoded_images.hpp"
#include "trainer/feature_batch.hpp"
#include "trainer/predict.hpp"
#include "trainer/stage_inputs.hpp"
#include "trainer/stages.hpp"
#include "trainer/tiled_image.hpp"
#include "workspace/checkpoint_files.hpp"

namespace filo {
namespace {

constexpr std::size_t samples_per_batch = 4;

using ImagesByClass = std::map<std::string, std::vector<EvaluatedImage>>;

// What a class came to, as the rank that made its metrics sends it to rank 0, which keeps it.
struct ClassReport {
  Json metrics, resamples, interpretations;
  std::map<std::string, std::string> heat_maps;  // PNG files by name
};

std::string to_bytes(const ClassReport& report) {
  Json files = Json::object();
  for (const auto& [name, png] : report.heat_maps)
    files[name] = Json::binary(std::vector<std::uint8_t>(png.begin(), png.end()));
  const auto bytes = Json::to_cbor({{"metrics", report.metrics},
                                    {"resamples", report.resamples},
                                    {"interpretations", report.interpretations},
                                    {"heat_maps", std::move(files)}});
  return {bytes.begin(), bytes.end()};
}

ClassReport class_report_from_bytes(const std::string& bytes) {
  const Json json = Json::from_cbor(bytes);
  ClassReport report{.metrics = json.at("metrics"),
                     .resamples = json.at("resamples"),
                     .interpretations = json.at("interpretations"),
                     .heat_maps = {}};
  for (const auto& [name, png] : json.at("heat_maps").items()) {
    const auto& file = png.get_binary();
    report.heat_maps[name] = {file.begin(), file.end()};
  }
  return report;
}

// The finished classes of a pass over the data set, on rank 0: KEPT/PASS/CLASS/{class.json, heat_maps/}, each there
// whole or not at all, so that an evaluation that was stopped goes on with the next class.
class KeptClasses {
 public:
  KeptClasses(Stage& stage, const std::string& pass)
      : stage_(stage), folder_(stage.workspace().kept_folder(stage.key()) / pass) {
    std::error_code error;
    if (!stage.is_root()) return;
    for (const auto& entry : std::filesystem::directory_iterator(folder_, error))
      if (const std::string name = entry.path().filename().string(); !name.starts_with(".")) load(name);
  }

  bool has(const std::string& name) const { return classes_.contains(name); }
  const Json& metrics_of(const std::string& name) const { return classes_.at(name).at("metrics"); }
  const Json& resamples_of(const std::string& name) const { return classes_.at(name).at("resamples"); }
  const Json& interpretations_of(const std::string& name) const { return classes_.at(name).at("interpretations"); }
  std::filesystem::path heat_maps_of(const std::string& name) const {
    return folder_ / name / artifact_name::heat_maps;
  }

  void keep(const std::string& name, const ClassReport& report) {
    stage_.expect_current();
    AtomicFolder folder(folder_ / name);
    std::filesystem::create_directories(folder.path() / artifact_name::heat_maps);
    for (const auto& [file, png] : report.heat_maps)
      write_file_atomically(folder.path() / artifact_name::heat_maps / file, png);
    Json json = {
        {"metrics", report.metrics}, {"resamples", report.resamples}, {"interpretations", report.interpretations}};
    write_json(folder.path() / file_name, json);
    folder.commit();
    classes_[name] = std::move(json);
  }

 private:
  static constexpr const char* file_name = "class.json";

  void load(const std::string& name) {
    try {
      Json json = read_json(folder_ / name / file_name);
      for (const char* part : {"metrics", "resamples", "interpretations"})
        if (!json.at(part).is_object()) return;
      classes_[name] = std::move(json);
    } catch (const std::exception& error) {
      log_warning("evaluate: what was kept of a class is passed over: " + std::string(error.what()));
    }
  }

  Stage& stage_;
  std::filesystem::path folder_;
  std::map<std::string, Json> classes_;
};

// One class after another: its images are dealt to the ranks, and their maps gathered on one of them, which makes the
// class's exact metrics while all go on with the next class. The ranks take turns in that.
class Evaluation {
 public:
  Evaluation(Stage& stage, const EvaluateSpec& spec)
      : stage_(stage),
        spec_(spec),
        communicator_(stage.communicator()),
        rank_(static_cast<std::size_t>(communicator_.rank())),
        ranks_(static_cast<std::size_t>(communicator_.world_size())),
        dataset_(load_dataset_of(stage, spec.dataset)),
        folders_(stage),
        reader_(folders_.paths()),
        boxes_(load_boxes_of(stage, spec.model)),
        clip_(
            load_clip_of(stage, spec.clip, spec.model, spec.evaluate.shots > 0 ? ClipTowers::both : ClipTowers::text)),
        system_(make_system(spec.model, spec.descriptions, clip_, spec.seed)),
        classes_(images_by_class(reader_)) {
    const std::size_t passes = spec.evaluate.compare_untrained ? 2 : 1;
    for (const auto& [name, images] : classes_) total_ += passes * images.size();
    for (const DatasetImage& entry : dataset_.images) entries_.emplace(entry.path, &entry);
  }

  void run() {
    tell_need();
    Json untrained;
    if (spec_.evaluate.compare_untrained) {
      KeptClasses kept(stage_, "untrained");
      evaluate(kept, 0);
      untrained = metrics_of_all(kept);
    }
    const std::filesystem::path checkpoint =
        parameters_file(stage_.workspace().checkpoint_folder(stage_.input(spec_input::train)));
    system_->load_parameters(load_tensors(checkpoint), checkpoint.string());

    KeptClasses kept(stage_, "trained");
    evaluate(kept, spec_.evaluate.heat_maps);
    const std::string interpretations_name = stage_.workspace().interpretations_file(stage_.key()).filename().string();
    if (stage_.is_root()) write_outputs(kept, stage_.output(interpretations_name));
    Json metrics = metrics_of_all(kept);
    if (spec_.evaluate.compare_untrained) metrics["untrained"] = untrained;
    stage_.events().write("metrics", metrics);
    stage_.finish(metrics, {{artifact_name::heat_maps, artifact_name::heat_maps},
                            {artifact_name::interpretations, interpretations_name}});
  }

 private:
  ImageSize map_size(const std::vector<EvaluatedImage>& images) const {
    return map_size_of(images, spec_.model.tiling, reader_.layout().mask_size);
  }

  MapsStorage storage() const { return {.folder = stage_.output("")}; }

  // What no rank could know before: how much the metrics will take.
  void tell_need() {
    std::vector<ClassSize> sizes;
    for (const auto& [name, images] : classes_) sizes.push_back({images.size(), map_size(images)});
    const MetricsNeed need = need_of_largest(sizes, storage(), stage_.arguments().threads);
    stage_.events().write(
        "needs", {{"images", need.images}, {"memory_bytes", need.memory_bytes}, {"disk_bytes", need.disk_bytes}});
    if (stage_.is_root())
      log_info("the metrics of the largest class, " + std::to_string(need.images) + " images, take at most " +
               std::to_string(need.memory_bytes >> 20) + " MiB of a rank's memory and " +
               std::to_string(need.disk_bytes >> 20) + " MiB of disk");
  }

  // A class whose metrics some rank is making.
  struct Pending {
    std::string name;
    int owner = 0;
    std::future<ClassReport> report;  // on its owner
  };

  void evaluate(KeptClasses& kept, int heat_maps) {
    std::size_t number = 0;
    for (const auto& [name, images] : classes_) {
      if (any_rank(communicator_, kept.has(name))) {  // rank 0 knows
        report_progress(images.size());
        continue;
      }
      if (pending_.size() == ranks_) collect(kept);
      evaluate_class(kept, name, images, static_cast<int>(number++ % ranks_), heat_maps);
    }
    while (!pending_.empty()) collect(kept);
  }

  // The report of the class that has waited longest, to rank 0.
  void collect(KeptClasses& kept) {
    Pending pending = std::move(pending_.front());
    pending_.pop_front();
    stage_.at("class " + pending.name + ": its metrics, on rank " + std::to_string(pending.owner));
    std::string bytes;
    if (pending.report.valid()) bytes = to_bytes(pending.report.get());
    const auto all = communicator_.gather_bytes(bytes);
    if (stage_.is_root())
      kept.keep(pending.name, class_report_from_bytes(all[static_cast<std::size_t>(pending.owner)]));
  }

  void evaluate_class(KeptClasses& kept, const std::string& name, const std::vector<EvaluatedImage>& images, int owner,
                      int heat_maps) {
    const torch::NoGradGuard no_grad;
    stage_.at("class " + name);
    std::optional<FewShotMemory> memory;
    if (spec_.evaluate.shots > 0)
      memory = few_shot_memory(*clip_, spec_.model, dataset_, name, spec_.evaluate.shots,
                               spec_.evaluate.seed.value_or(spec_.seed));
    TestingOptions options;
    options.memory = memory ? &*memory : nullptr;
    options.vision_language = spec_.evaluate.vision_language;
    options.gaussian_sigma = spec_.evaluate.gaussian_sigma;

    const bool is_owner = owner == communicator_.rank();
    ClassResult whole = empty_class(name, is_owner ? images.size() : 0, map_size(images), storage());
    const Deal mine = deal(images, samples_per_batch, rank_, ranks_);
    std::vector<std::vector<std::size_t>> batches;
    for (const auto& round : mine.rounds) batches.insert(batches.end(), round.batches.begin(), round.batches.end());
    Prefetcher prefetcher(reader_, std::move(batches), prefetch_options(stage_));
    std::size_t first = 0;
    for (const Deal::Round& round : mine.rounds) {
      std::vector<TiledImage> found;
      for (const std::size_t place : round.places) found.emplace_back(images[place].size, images[place].tiles);
      auto next = found.begin();
      for (std::size_t batch = 0; batch < mine.batches; ++batch) {
        stage_.at("class " + name + ", from image " + std::to_string(first + 1) + " of " +
                  std::to_string(images.size()) + ", batch " + std::to_string(batch + 1));
        if (const int signal = agree_stop(communicator_, stop_requested())) stop(kept, signal);
        if (batch >= round.batches.size()) continue;
        const FeatureBlock block = prefetcher.next().value();
        add(next, block, system_->test_forward(make_batch(block, reader_.layout(), boxes_).images, options));
      }
      const ClassPart part{.places = round.places, .result = results_of(images, round.places, found, whole.size)};
      for (const auto& bytes : communicator_.gather_bytes(to_bytes(part), owner))
        filo::place(whole, class_part_from_bytes(bytes));
      report_progress(std::min(mine.images, images.size() - first));
      first += mine.images;
    }
    pending_.push_back({name, owner, {}});
    if (is_owner)
      pending_.back().report = std::async(std::launch::async, [this, whole = std::move(whole), heat_maps] {
        ClassMetrics metrics = metrics_of(whole, spec_.evaluate.aupro_fpr, stage_.arguments().threads);
        metrics.values["defects"] =
            defect_metrics_of(whole, metrics.values, spec_.evaluate.aupro_fpr, stage_.arguments().threads);
        return ClassReport{.metrics = std::move(metrics.values),
                           .resamples = std::move(metrics.resamples),
                           .interpretations = whole.interpretations,
                           .heat_maps = heat_maps_of(whole, dataset_.root, heat_maps, dataset_.grey16)};
      });
  }

  // To the images whose turn it is.
  static void add(std::vector<TiledImage>::iterator& next, const FeatureBlock& block, const ForwardOutput& output) {
    const torch::Tensor maps = output.map.to(torch::kCPU, torch::kFloat).contiguous();  // [B, S, S]
    const torch::Tensor scores = output.score.to(torch::kCPU, torch::kFloat).contiguous();
    const auto area = static_cast<std::size_t>(maps.size(1) * maps.size(2));
    std::vector<std::uint8_t> mask(area);
    for (std::size_t i = 0; i < block.size(); ++i) {
      if (next->is_complete()) ++next;
      block.mask(i, mask);
      next->add({maps.data_ptr<float>() + i * area, area}, scores.data_ptr<float>()[i],
                interpretation(output.prompts[i]), mask);
    }
  }

  // Of a whole image the cache says what it is; what it says of tiles is not so of their image.
  ImageResults results_of(const std::vector<EvaluatedImage>& images, const std::vector<std::size_t>& places,
                          const std::vector<TiledImage>& found, ImageSize size) const {
    ImageResults result;
    result.size = size;
    for (std::size_t i = 0; i < places.size(); ++i) {
      const EvaluatedImage& image = images[places[i]];
      const SampleInfo& sample = reader_.info(image.samples.front());
      const bool cut = image.tiles.size() > 1;
      const std::vector<float> map = found[i].map(size);
      const std::vector<std::uint8_t> mask = found[i].mask(size);
      result.images.push_back(image.path);
      result.scores.push_back(found[i].score());
      result.labels.push_back(static_cast<std::uint8_t>(cut ? entries_.at(image.path)->label : sample.label));
      result.defects.push_back(cut ? entries_.at(image.path)->defect : sample.defect);
      result.masked.push_back(sample.masked ? 1 : 0);
      result.maps.insert(result.maps.end(), map.begin(), map.end());
      result.masks.insert(result.masks.end(), mask.begin(), mask.end());
      result.interpretations[image.path] = found[i].interpretation();
    }
    return result;
  }

  // All ranks, at the same batch. What is finished of the classes is kept.
  [[noreturn]] void stop(KeptClasses& kept, int signal) {
    while (!pending_.empty()) collect(kept);
    stage_.events().write("stopped", {{"signal", signal}, {"step", done_}});
    throw StoppedEarly("evaluate: stopped by signal " + std::to_string(signal) + " after " + std::to_string(done_) +
                       " of " + std::to_string(total_) +
                       " images; finished classes are kept, the same command goes on there");
  }

  // Of all ranks together: they go through the images side by side.
  void report_progress(std::size_t images) {
    done_ += images;
    stage_.events().write("progress", {{"done", done_}, {"total", total_}, {"unit", "images"}});
  }

  Json metrics_of_all(const KeptClasses& kept) const {
    if (!stage_.is_root()) return {};
    Json classes = Json::object(), resamples = Json::object();
    for (const auto& [name, images] : classes_) {
      classes[name] = kept.metrics_of(name);
      resamples[name] = kept.resamples_of(name);
    }
    Json metrics = mean_over_classes(classes, resamples);
    metrics["classes"] = classes;
    return metrics;
  }

  void write_outputs(const KeptClasses& kept, const std::filesystem::path& interpretations_file) const {
    AtomicFolder heat_maps(stage_.output(artifact_name::heat_maps));
    Json interpretations = Json::object();
    for (const auto& [name, images] : classes_) {
      interpretations[name] = kept.interpretations_of(name);
      if (!std::filesystem::is_empty(kept.heat_maps_of(name)))
        std::filesystem::copy(kept.heat_maps_of(name), heat_maps.path() / name);
    }
    heat_maps.commit();
    write_json(interpretations_file, interpretations);
  }

  Stage& stage_;
  const EvaluateSpec& spec_;
  Communicator& communicator_;
  std::size_t rank_, ranks_;
  Dataset dataset_;
  FeatureFolders folders_;
  ShardReader reader_;
  std::vector<ImageBoxes> boxes_;  // of the reader's one folder
  std::shared_ptr<const ClipModel> clip_;
  std::unique_ptr<System> system_;
  ImagesByClass classes_;
  std::map<std::string, const DatasetImage*> entries_;
  std::size_t total_ = 0;  // images to evaluate
  std::size_t done_ = 0;   // of them
  std::deque<Pending> pending_;
};

}  // namespace

void run_evaluate(Stage& stage) {
  const EvaluateSpec spec = evaluate_spec_from_json(stage.spec(), stage.spec_file());
  for (const DatasetReference& trained_on : spec.train_datasets)
    if (spec.dataset.digest == trained_on.digest)
      throw UsageError("evaluate: " + spec.dataset.name,
                       "is the data set that was trained on; expected another one (cross-data-set fold)");
  Evaluation evaluation(stage, spec);
  evaluation.run();
}

}  // namespace filo
