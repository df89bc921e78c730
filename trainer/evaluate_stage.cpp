#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/signals.hpp"
#include "checkpoint/files.hpp"
#include "cluster/agreement.hpp"
#include "data/datasets/dataset.hpp"
#include "data/images/image.hpp"
#include "data/shards/shards.hpp"
#include "model/systems/filo_model.hpp"
#include "settings/metrics.hpp"
#include "trainer/device.hpp"
#include "trainer/feature_batch.hpp"
#include "trainer/few_shot_images.hpp"
#include "trainer/metrics.hpp"
#include "trainer/stage_inputs.hpp"
#include "trainer/stages.hpp"

namespace filo {
namespace {

constexpr std::size_t images_per_batch = 4;
constexpr std::size_t descriptions_kept = 5;

// What one class of the test data set gives; its maps are held in memory, one class a rank at a time.
struct ClassResult {
  std::vector<std::string> images;
  std::vector<float> scores;
  std::vector<std::uint8_t> labels;
  std::vector<float> maps;          // [N, S, S]
  std::vector<std::uint8_t> masks;  // [N, S, S]
  Json interpretations = Json::object();
};

Json metric(double value) { return std::isnan(value) ? Json() : Json(value); }

Json metrics_of(const ClassResult& result, int size) {
  const Metrics image = binary_metrics(result.scores, result.labels);
  const Metrics pixel = binary_metrics(result.maps, result.masks);
  return {{"image_auroc", metric(image.auroc)},
          {"image_ap", metric(image.ap)},
          {"image_f1_max", metric(image.f1_max)},
          {"pixel_auroc", metric(pixel.auroc)},
          {"pixel_ap", metric(pixel.ap)},
          {"pixel_f1_max", metric(pixel.f1_max)},
          {"aupro", metric(aupro(result.maps, result.masks, size, size, result.images.size()))},
          {"images", result.images.size()}};
}

// The mean over classes of every metric; a class where one is undefined (no anomalous image, say) is left out of its
// mean.
Json mean_over_classes(const Json& classes) {
  Json means = Json::object();
  for (const auto& name : metric_names()) {
    double sum = 0;
    int count = 0;
    for (const auto& [class_name, values] : classes.items())
      if (values.at(name).is_number()) {
        sum += values.at(name).get<double>();
        ++count;
      }
    means[name] = count > 0 ? Json(sum / count) : Json();
  }
  return means;
}

// The photo with the true defect outlined, and beside it the photo under its anomaly map.
Image heat_map_panel(const Image& photo, const std::vector<float>& map, std::span<const std::uint8_t> mask, int size) {
  Image outline(size, size, 1);
  std::copy(mask.begin(), mask.end(), outline.pixels.begin());
  return join_horizontally({draw_contour(to_rgb(photo), outline, {.red = 0, .green = 230, .blue = 118}),
                            overlay_heat_map(to_rgb(photo), map.data(), size, size)});
}

class Evaluation {
 public:
  Evaluation(Stage& stage, const EvaluateSpec& spec)
      : stage_(stage),
        spec_(spec),
        dataset_(load_dataset_of(stage, spec.dataset)),
        reader_(stage.workspace().features_folder(stage.input(spec_input::features))),
        boxes_(load_boxes_of(stage, spec.model)),
        clip_(load_clip_of(stage, spec.clip, spec.evaluate.shots > 0 ? ClipTowers::both : ClipTowers::text)),
        model_(spec.model, spec.descriptions, clip_, spec.seed) {
    for (std::size_t i = 0; i < reader_.size(); ++i) by_class_[reader_.info(i).class_name].push_back(i);
    total_ = reader_.size() * (spec_.evaluate.compare_untrained ? 2 : 1);
  }

  void run() {
    Json untrained = Json::object();
    if (spec_.evaluate.compare_untrained) untrained = evaluate_classes(/*trained=*/false);
    const std::filesystem::path checkpoint =
        parameters_file(stage_.workspace().checkpoint_folder(stage_.input(spec_input::train)));
    model_.load_parameters(load_tensors(checkpoint), checkpoint.string());

    heat_maps_ = std::make_unique<AtomicFolder>(
        stage_.workspace().heat_maps_folder_of_rank(stage_.key(), stage_.communicator().rank()));
    const Json trained = evaluate_classes(/*trained=*/true);
    heat_maps_->commit();
    stage_.communicator().barrier();
    const Json interpretations = gather(interpretations_);
    if (stage_.is_root()) {
      collect_heat_maps();
      write_json(stage_.workspace().interpretations_file(stage_.key()), interpretations);
    }
    Json metrics = mean_over_classes(trained);
    metrics["classes"] = trained;
    if (spec_.evaluate.compare_untrained) {
      metrics["untrained"] = mean_over_classes(untrained);
      metrics["untrained"]["classes"] = untrained;
    }
    stage_.events().write("metrics", metrics);
    stage_.finish(
        metrics,
        {{artifact_name::heat_maps, stage_.workspace().heat_maps_folder(stage_.key()).filename().string()},
         {artifact_name::interpretations, stage_.workspace().interpretations_file(stage_.key()).filename().string()}});
  }

 private:
  // Whole classes go to ranks, largest first, so that a class's exact pixel metrics need no exchange and memory holds
  // one class.
  std::vector<std::string> my_classes() const {
    std::vector<std::pair<std::size_t, std::string>> sizes;
    for (const auto& [name, images] : by_class_) sizes.emplace_back(images.size(), name);
    std::sort(sizes.rbegin(), sizes.rend());
    std::vector<std::size_t> load(static_cast<std::size_t>(stage_.communicator().world_size()));
    std::vector<std::string> mine;
    for (const auto& [count, name] : sizes) {
      const auto least = std::min_element(load.begin(), load.end());
      *least += count;
      if (least - load.begin() == stage_.communicator().rank()) mine.push_back(name);
    }
    return mine;
  }

  // class -> metrics, of all ranks, on every rank's root (empty elsewhere is never used).
  Json evaluate_classes(bool trained) {
    Json metrics = Json::object();
    for (const std::string& name : my_classes()) {
      const ClassResult result = evaluate_class(name, trained);
      metrics[name] = metrics_of(result, reader_.layout().mask_size);
      if (trained) {
        write_heat_maps(name, result);
        interpretations_[name] = result.interpretations;
      }
    }
    return gather(metrics);
  }

  ClassResult evaluate_class(const std::string& class_name, bool trained) {
    const torch::NoGradGuard no_grad;
    ClassResult result;
    const std::vector<std::size_t>& indices = by_class_.at(class_name);
    std::optional<FewShotMemory> memory;
    if (spec_.evaluate.shots > 0)
      memory = few_shot_memory(*clip_, spec_.model, dataset_, class_name, spec_.evaluate.shots, spec_.seed);
    ForwardOptions options;
    options.with_adapter = true;
    options.memory = memory ? &*memory : nullptr;
    options.vision_language = spec_.evaluate.vision_language;
    options.gaussian_sigma = spec_.evaluate.gaussian_sigma;
    Prefetcher prefetcher(reader_, indices, 2 * images_per_batch, 1);
    for (std::size_t first = 0; first < indices.size(); first += images_per_batch) {
      // Nothing is kept of a half-done evaluation; a stop is taken where it comes (ranks have different numbers of
      // batches).
      if (stop_requested() != 0) throw StoppedEarly("evaluate: stopped by signal " + std::to_string(stop_requested()));
      std::vector<FeatureSample> samples;
      for (std::size_t i = first; i < std::min(first + images_per_batch, indices.size()); ++i)
        samples.push_back(prefetcher.next().value());
      const FeatureBatch batch = make_batch(samples, reader_.layout(), boxes_);
      const ForwardOutput output = model_.forward(batch.images, options);
      const torch::Tensor maps = output.map.to(torch::kCPU, torch::kFloat).contiguous();
      const torch::Tensor scores = output.score.to(torch::kCPU, torch::kFloat).contiguous();
      result.maps.insert(result.maps.end(), maps.data_ptr<float>(), maps.data_ptr<float>() + maps.numel());
      result.scores.insert(result.scores.end(), scores.data_ptr<float>(), scores.data_ptr<float>() + scores.numel());
      for (const FeatureSample& sample : samples) {
        result.images.push_back(sample.image);
        result.labels.push_back(static_cast<std::uint8_t>(sample.label));
        result.masks.insert(result.masks.end(), sample.mask.begin(), sample.mask.end());
      }
      if (trained) add_interpretations(batch, output, result);
      done_ += samples.size();
      stage_.events().write(
          "progress", {{"done", std::min(done_ * static_cast<std::size_t>(stage_.communicator().world_size()), total_)},
                       {"total", total_},
                       {"unit", "images"}});
    }
    return result;
  }

  // Which anomaly it is: the class's descriptions by similarity to the image (paper, section III-B).
  static void add_interpretations(const FeatureBatch& batch, const ForwardOutput& output, ClassResult& result) {
    for (std::size_t i = 0; i < batch.names.size(); ++i) {
      Json entries = Json::array();
      const std::vector<RankedDescription> ranked = rank_descriptions(output.prompts[i]);
      for (std::size_t k = 0; k < std::min(ranked.size(), descriptions_kept); ++k)
        entries.push_back({{"description", ranked[k].description},
                           {"position", ranked[k].position},
                           {"similarity", ranked[k].similarity}});
      result.interpretations[batch.names[i]] = entries;
    }
  }

  void write_heat_maps(const std::string& class_name, const ClassResult& result) {
    const int size = reader_.layout().mask_size;
    const std::size_t area = static_cast<std::size_t>(size) * static_cast<std::size_t>(size);
    const auto [low, high] = std::minmax_element(result.maps.begin(), result.maps.end());
    const float range = std::max(*high - *low, 1e-12f);
    int written = 0;
    for (std::size_t i = 0; i < result.images.size() && written < spec_.evaluate.heat_maps; ++i) {
      if (result.labels[i] == 0) continue;
      std::vector<float> scaled(area);
      std::transform(result.maps.begin() + static_cast<std::ptrdiff_t>(i * area),
                     result.maps.begin() + static_cast<std::ptrdiff_t>((i + 1) * area), scaled.begin(),
                     [&](float value) { return (value - *low) / range; });
      const Image photo = decode_image(std::filesystem::path(dataset_.root) / result.images[i]);
      std::string file = result.images[i];
      std::replace(file.begin(), file.end(), '/', '_');
      const std::filesystem::path folder = heat_maps_->path() / class_name;
      std::filesystem::create_directories(folder);
      write_png(folder / (std::filesystem::path(file).stem().string() + ".png"),
                heat_map_panel(photo, scaled, std::span(result.masks).subspan(i * area, area), size));
      ++written;
    }
  }

  // The ranks' folders become one; each class was one rank's alone.
  void collect_heat_maps() const {
    namespace fs = std::filesystem;
    AtomicFolder all(stage_.workspace().heat_maps_folder(stage_.key()));
    for (int rank = 0; rank < stage_.communicator().world_size(); ++rank) {
      const fs::path part = stage_.workspace().heat_maps_folder_of_rank(stage_.key(), rank);
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
  FiloModel model_;
  std::map<std::string, std::vector<std::size_t>> by_class_;
  std::unique_ptr<AtomicFolder> heat_maps_;
  Json interpretations_ = Json::object();
  std::size_t done_ = 0;
  std::size_t total_ = 0;
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
