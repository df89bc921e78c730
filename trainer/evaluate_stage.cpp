#include <torch/torch.h>

#include <algorithm>
#include <optional>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/signals.hpp"
#include "data/datasets/dataset.hpp"
#include "data/shards/shards.hpp"
#include "model/systems/system.hpp"
#include "trainer/class_result.hpp"
#include "trainer/feature_batch.hpp"
#include "trainer/few_shot_images.hpp"
#include "trainer/interpretation.hpp"
#include "trainer/stage_inputs.hpp"
#include "trainer/stages.hpp"
#include "workspace/checkpoint_files.hpp"

namespace filo {
namespace {

constexpr std::size_t images_per_batch = 4;

using ImagesByClass = std::map<std::string, std::vector<std::size_t>>;  // class -> indices of the reader

ImagesByClass images_by_class(const ShardReader& reader) {
  ImagesByClass classes;
  for (std::size_t i = 0; i < reader.size(); ++i) classes[reader.info(i).class_name].push_back(i);
  return classes;
}

// Whole classes go to ranks, largest first, so that a class's exact pixel metrics need no exchange and memory holds one
// class.
std::vector<std::string> classes_of_rank(const ImagesByClass& classes, int rank, int world_size) {
  std::vector<std::pair<std::size_t, std::string>> sizes;
  for (const auto& [name, images] : classes) sizes.emplace_back(images.size(), name);
  std::sort(sizes.rbegin(), sizes.rend());
  std::vector<std::size_t> load(static_cast<std::size_t>(world_size));
  std::vector<std::string> mine;
  for (const auto& [count, name] : sizes) {
    const auto least = std::min_element(load.begin(), load.end());
    *least += count;
    if (least - load.begin() == rank) mine.push_back(name);
  }
  return mine;
}

// Appends what one pass found of a batch.
void append(ClassResult& result, const std::vector<FeatureSample>& samples, const ForwardOutput& output) {
  const torch::Tensor maps = output.map.to(torch::kCPU, torch::kFloat).contiguous();
  const torch::Tensor scores = output.score.to(torch::kCPU, torch::kFloat).contiguous();
  result.maps.insert(result.maps.end(), maps.data_ptr<float>(), maps.data_ptr<float>() + maps.numel());
  result.scores.insert(result.scores.end(), scores.data_ptr<float>(), scores.data_ptr<float>() + scores.numel());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    result.images.push_back(samples[i].image);
    result.labels.push_back(static_cast<std::uint8_t>(samples[i].label));
    result.masks.insert(result.masks.end(), samples[i].mask.begin(), samples[i].mask.end());
    result.interpretations[samples[i].image] = interpretation(output.prompts[i]);
  }
}

class Evaluation {
 public:
  Evaluation(Stage& stage, const EvaluateSpec& spec)
      : stage_(stage),
        spec_(spec),
        dataset_(load_dataset_of(stage, spec.dataset)),
        reader_(stage.workspace().features_folder(stage.input(spec_input::features))),
        boxes_(load_boxes_of(stage, spec.model)),
        clip_(
            load_clip_of(stage, spec.clip, spec.model, spec.evaluate.shots > 0 ? ClipTowers::both : ClipTowers::text)),
        system_(make_system(spec.model, spec.descriptions, clip_, spec.seed)),
        classes_(images_by_class(reader_)),
        total_(reader_.size() * (spec.evaluate.compare_untrained ? 2 : 1)) {}

  void run() {
    Json untrained;
    if (spec_.evaluate.compare_untrained) untrained = evaluate([](const std::string&, const ClassResult&) {});
    const std::filesystem::path checkpoint =
        parameters_file(stage_.workspace().checkpoint_folder(stage_.input(spec_input::train)));
    system_->load_parameters(load_tensors(checkpoint), checkpoint.string());

    AtomicFolder heat_maps(heat_maps_of(stage_.communicator().rank()));
    const std::string interpretations_name = stage_.workspace().interpretations_file(stage_.key()).filename().string();
    Json interpretations = Json::object();
    const Json trained = evaluate([&](const std::string& name, const ClassResult& result) {
      write_heat_maps(heat_maps.path() / name, result, dataset_.root, spec_.evaluate.heat_maps);
      interpretations[name] = result.interpretations;
    });
    heat_maps.commit();
    stage_.communicator().barrier();
    interpretations = gather(interpretations);
    if (stage_.is_root()) {
      collect_heat_maps();
      write_json(stage_.output(interpretations_name), interpretations);
    }
    Json metrics = with_means(trained);
    if (spec_.evaluate.compare_untrained) metrics["untrained"] = with_means(untrained);
    stage_.events().write("metrics", metrics);
    stage_.finish(metrics, {{artifact_name::heat_maps, artifact_name::heat_maps},
                            {artifact_name::interpretations, interpretations_name}});
  }

 private:
  // {class: metrics} of all ranks, on the root; `each` sees this rank's classes one by one.
  template <typename Each>
  Json evaluate(Each each) {
    Json metrics = Json::object();
    for (const std::string& name :
         classes_of_rank(classes_, stage_.communicator().rank(), stage_.communicator().world_size())) {
      const ClassResult result = evaluate_class(name);
      metrics[name] = metrics_of(result);
      each(name, result);
    }
    return gather(metrics);
  }

  ClassResult evaluate_class(const std::string& class_name) {
    const torch::NoGradGuard no_grad;
    std::optional<FewShotMemory> memory;
    if (spec_.evaluate.shots > 0)
      memory = few_shot_memory(*clip_, spec_.model, dataset_, class_name, spec_.evaluate.shots, spec_.seed);
    TestingOptions options;
    options.memory = memory ? &*memory : nullptr;
    options.vision_language = spec_.evaluate.vision_language;
    options.gaussian_sigma = spec_.evaluate.gaussian_sigma;

    ClassResult result;
    result.size = reader_.layout().mask_size;
    const std::vector<std::size_t>& indices = classes_.at(class_name);
    Prefetcher prefetcher(reader_, indices, 2 * images_per_batch, 1);
    for (std::size_t first = 0; first < indices.size(); first += images_per_batch) {
      // Nothing is kept of a half-done evaluation; a stop is taken where it comes (ranks have different numbers of
      // batches).
      if (stop_requested() != 0) throw StoppedEarly("evaluate: stopped by signal " + std::to_string(stop_requested()));
      std::vector<FeatureSample> samples;
      for (std::size_t i = first; i < std::min(first + images_per_batch, indices.size()); ++i)
        samples.push_back(prefetcher.next().value());
      const FeatureBatch batch = make_batch(samples, reader_.layout(), boxes_);
      append(result, samples, system_->test_forward(batch.images, options));
      report_progress(samples.size());
    }
    return result;
  }

  void report_progress(std::size_t images) {
    done_ += images;
    const auto ranks = static_cast<std::size_t>(stage_.communicator().world_size());
    stage_.events().write("progress",
                          {{"done", std::min(done_ * ranks, total_)}, {"total", total_}, {"unit", "images"}});
  }

  static Json with_means(const Json& classes) {
    Json metrics = mean_over_classes(classes);
    metrics["classes"] = classes;
    return metrics;
  }

  std::filesystem::path heat_maps_of(int rank) const {
    return stage_.output(std::string(artifact_name::heat_maps) + ".rank-" + std::to_string(rank));
  }

  // The ranks' folders become one; each class was one rank's alone.
  void collect_heat_maps() const {
    namespace fs = std::filesystem;
    AtomicFolder all(stage_.output(artifact_name::heat_maps));
    for (int rank = 0; rank < stage_.communicator().world_size(); ++rank) {
      const fs::path part = heat_maps_of(rank);
      for (const auto& entry : fs::directory_iterator(part))
        fs::rename(entry.path(), all.path() / entry.path().filename());
      fs::remove_all(part);
    }
    all.commit();
  }

  // Merges the ranks' objects on rank 0.
  Json gather(const Json& mine) const {
    Json all = Json::object();
    for (const std::string& text : stage_.communicator().gather_bytes(mine.dump())) all.update(Json::parse(text));
    return all;
  }

  Stage& stage_;
  const EvaluateSpec& spec_;
  Dataset dataset_;
  ShardReader reader_;
  std::vector<ImageBoxes> boxes_;  // of the reader's one folder
  std::shared_ptr<const ClipModel> clip_;
  std::unique_ptr<System> system_;
  ImagesByClass classes_;
  std::size_t total_ = 0;  // images to evaluate, over all ranks
  std::size_t done_ = 0;   // of this rank
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
