#include "trainer/stage_inputs.hpp"

#include <torch/torch.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <future>

#include "base/error.hpp"
#include "base/host.hpp"
#include "cluster/agreement.hpp"
#include "data/shards/local_copy.hpp"
#include "model/systems/system.hpp"
#include "settings/clip_digest.hpp"
#include "trainer/device.hpp"
#include "workspace/layout.hpp"

namespace filo {
namespace {

// "$NAME/more" with the environment's NAME.
std::filesystem::path with_variable(const std::string& text) {
  if (!text.starts_with('$')) return text;
  const std::size_t end = std::min(text.find('/'), text.size());
  const std::string name = text.substr(1, end - 1);
  const char* value = std::getenv(name.c_str());
  if (value == nullptr || *value == '\0')
    throw UsageError("worker: resources.local_copy",
                     "found " + text + ", but the environment of this job has no " + name);
  return value + text.substr(end);
}

// Whether no lower rank runs on this host. Collective.
bool is_first_of_host(Communicator& communicator) {
  const auto hosts = communicator.gather_bytes(host_name());
  std::vector<bool> first;
  for (auto host = hosts.begin(); host != hosts.end(); ++host)
    first.push_back(std::find(hosts.begin(), host, *host) == host);
  const Json all = Json::parse(broadcast_text(communicator, Json(first).dump()));
  return all.at(static_cast<std::size_t>(communicator.rank()));
}

// The copy is made by threads of its own, while this one tells the watchdog how far it is.
void copy_and_tell(Stage& stage, const std::filesystem::path& folder, const std::filesystem::path& disk) {
  std::atomic<std::size_t> copied{0}, all{0};
  auto copy = std::async(std::launch::async, [&] {
    make_local_copy(folder, disk, [&](std::size_t done, std::size_t total) {
      all = total;
      copied = done;
    });
  });
  do {
    stage.at("copying " + folder.filename().string() + " to " + disk.string() + ": " + std::to_string(copied) + " of " +
             std::to_string(all) + " shards");
  } while (copy.wait_for(std::chrono::seconds(1)) != std::future_status::ready);
  copy.get();
}

std::shared_ptr<std::byte> allocate_pinned(std::size_t bytes) {
  const torch::Tensor memory =
      torch::empty({static_cast<std::int64_t>(bytes)}, torch::TensorOptions(torch::kByte).pinned_memory(true));
  return {static_cast<std::byte*>(memory.data_ptr()), [memory](std::byte*) {}};
}

// Boxes stages of versions that did not count phrases wrote "" for a phrase that their file did not tell.
std::map<std::string, std::vector<Box>> read_boxes_of(const Stage& stage, const std::string& key) {
  auto boxes = read_boxes(stage.workspace().boxes_file(key));
  const auto result = stage.workspace().result(key, StageKind::boxes);
  if (result && result->metrics.contains("phrases")) return boxes;
  for (auto& [image, list] : boxes)
    for (Box& box : list)
      if (box.phrase == "") box.phrase.reset();
  return boxes;
}

// None where the training takes no mosaics.
std::vector<std::string> mosaic_inputs(const Stage& stage) {
  const Json inputs = stage.spec().value(spec_member::inputs, Json::object());
  return inputs.contains(spec_input::mosaics) ? stage.all_inputs(spec_input::mosaics) : std::vector<std::string>();
}

}  // namespace

void expect_planned(const std::string& where, const std::string& what, const std::string& found,
                    const std::string& planned) {
  if (found != planned)
    throw Error(where,
                what + " is " + found + ", but this stage was planned for " + planned + "; plan again (filo run)");
}

Dataset load_dataset_of(const Stage& stage, const DatasetReference& reference) {
  Dataset dataset = load_dataset(stage.workspace().root(), reference.name);
  expect_planned("worker: data set " + reference.name, "its digest", dataset.digest, reference.digest);
  return dataset;
}

void check_clip_of(const ClipReference& reference) {
  expect_planned("worker: " + reference.path, "the weights' digest", clip_digest(reference.path), reference.digest);
}

std::shared_ptr<const ClipModel> load_clip_of(const Stage& stage, const ClipReference& reference,
                                              const ModelSettings& model, ClipTowers towers) {
  if (stage.is_root()) check_clip_of(reference);
  return load_clip(model, reference.path, compute_device(), towers);
}

std::vector<ImageBoxes> load_boxes_of(const Stage& stage, const ModelSettings& model) {
  const bool wanted = stage.kind() == StageKind::train ? training_uses_boxes(model) : evaluation_uses_boxes(model);
  const Json inputs = stage.spec().value(spec_member::inputs, Json::object());
  if (wanted != inputs.contains(spec_input::boxes))
    throw UsageError("worker: " + stage.spec_file().string() + ": inputs.boxes",
                     wanted ? "missing; expected the key of a boxes stage, because model.boxes.source names one"
                            : "found a boxes stage, but these settings do not use boxes");
  const std::size_t folders = stage.all_inputs(spec_input::features).size(), mosaics = mosaic_inputs(stage).size();
  if (!wanted) return std::vector<ImageBoxes>(folders + mosaics);
  std::vector<ImageBoxes> boxes;
  for (const std::string& key : stage.all_inputs(spec_input::boxes)) boxes.push_back(read_boxes_of(stage, key));
  if (boxes.size() != folders)
    throw UsageError("worker: " + stage.spec_file().string() + ": inputs",
                     "found " + std::to_string(boxes.size()) + " boxes stages, expected one for each of " +
                         std::to_string(folders) + " features stages");
  for (std::size_t i = 0; i < mosaics; ++i) boxes.push_back(boxes.at(i));  // of the same data set
  return boxes;
}

FeatureFolders::FeatureFolders(Stage& stage) {
  for (const auto& keys : {stage.all_inputs(spec_input::features), mosaic_inputs(stage)})
    for (const std::string& key : keys) paths_.push_back(stage.workspace().features_folder(key));
  const std::filesystem::path disk = with_variable(stage.arguments().local_copy);
  if (disk.empty()) return;
  if (is_first_of_host(stage.communicator()))
    for (const auto& folder : paths_) copy_and_tell(stage, folder, disk);
  stage.communicator().barrier();
  for (auto& folder : paths_) {
    const std::filesystem::path copy = local_copy_folder(folder, disk);
    if (!std::filesystem::exists(features_manifest(copy))) continue;
    heartbeat_.add(local_copy_in_use(copy));
    folder = copy;
  }
}

PrefetchOptions prefetch_options(const Stage& stage) {
  PrefetchOptions options;
  options.bytes = memory_in_bytes(stage.arguments().prefetch_memory);
  if (compute_device().is_cuda()) options.allocate = allocate_pinned;
  return options;
}

Json features_key(const FeaturesSpec& spec) {
  Json key = {{"clip", spec.clip.digest}, {"dataset", spec.dataset.digest}};
  key.update(model_of_features(spec.model));
  if (spec.mosaics > 0) key[spec_member::mosaics] = spec.mosaics;
  return key;
}

namespace {

// What VisionOptions::aliased makes one: every V-V map, and the map of the layer before the first.
std::map<std::string, std::string> aliases_of(const FeatureLayout& layout, int vv_from) {
  std::vector<std::string> same;
  if (std::ranges::find(layout.qkv_layers, vv_from - 1) != layout.qkv_layers.end())
    same.push_back("qkv/" + std::to_string(vv_from - 1));
  for (const int layer : layout.vv_layers) same.push_back("vv/" + std::to_string(layer));
  std::map<std::string, std::string> aliases;
  for (std::size_t i = 1; i < same.size(); ++i) aliases[same[i]] = same[0];
  return aliases;
}

}  // namespace

FeatureLayout feature_layout(const ClipConfig& clip, const FeaturesSpec& spec) {
  FeatureLayout layout;
  const int side = spec.model.image_size / clip.patch;
  layout.global_size = clip.projection;
  layout.patches = side * side;
  layout.width = clip.vision.width;
  layout.qkv_layers = spec.model.layers;
  for (const int layer : spec.model.layers)
    if (layer >= spec.model.vv_from) layout.vv_layers.push_back(layer);
  layout.mask_size = spec.model.image_size;
  layout.type = spec.model.feature_type;
  if (wanted_features(spec.model).aliased) layout.same_as = aliases_of(layout, spec.model.vv_from);
  return layout;
}

}  // namespace filo
