#include "base/files.hpp"
#include "data/shards/shards.hpp"
#include "model/systems/system.hpp"
#include "trainer/loop.hpp"
#include "trainer/spec.hpp"
#include "trainer/stages.hpp"

namespace filo {
namespace {

std::vector<std::filesystem::path> feature_folders(const Stage& stage) {
  std::vector<std::filesystem::path> folders;
  for (const std::string& key : stage.all_inputs("features")) folders.push_back(stage.features_folder(key));
  return folders;
}

// {"name", "digest"}, or a list of them.
const Json& trained_on(const Json& spec) {
  return spec.contains("datasets") ? spec.at("datasets") : spec.at("dataset");
}

void write_checkpoint(const Stage& stage, const TrainSpec& spec, const System& system) {
  if (stage.is_root()) {
    AtomicFolder folder(stage.folder() / "checkpoint");
    save_tensors(folder.path() / "params.safetensors", system.parameters(),
                 {{"profile", to_json(spec.model).at("profile")}});
    write_json(folder.path() / "settings.json", {{"model", to_json(spec.model)},
                                                 {"train", to_json(spec.train)},
                                                 {"clip", stage.spec().at("clip")},
                                                 {"descriptions", to_json(spec.descriptions)},
                                                 {"trained_on", trained_on(stage.spec())},
                                                 {"world_size", stage.communicator().world_size()}});
    folder.commit();
  }
  stage.communicator().barrier();
}

}  // namespace

void run_train(Stage& stage) {
  const TrainSpec spec = parse_train_spec(stage.spec(), stage.folder() / "spec.json");
  const ShardReader reader(feature_folders(stage));
  const std::vector<ImageBoxes> boxes = load_boxes_of(stage, spec.model);
  const auto clip = load_clip_of(stage, spec.clip, ClipTowers::text);
  const auto system = make_system(spec.model, spec.descriptions, clip, spec.train.seed);
  train(stage, spec.train, *system, reader, boxes);
  write_checkpoint(stage, spec, *system);
  stage.finish(Json::object(), {{"checkpoint", "checkpoint"}});
}

}  // namespace filo
