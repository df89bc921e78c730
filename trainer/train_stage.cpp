#include "base/files.hpp"
#include "checkpoint/files.hpp"
#include "data/shards/shards.hpp"
#include "model/systems/system.hpp"
#include "trainer/loop.hpp"
#include "trainer/stage_inputs.hpp"
#include "trainer/stages.hpp"

namespace filo {
namespace {

std::vector<std::filesystem::path> feature_folders(const Stage& stage) {
  std::vector<std::filesystem::path> folders;
  for (const std::string& key : stage.all_inputs(spec_input::features))
    folders.push_back(stage.workspace().features_folder(key));
  return folders;
}

void write_checkpoint(const Stage& stage, const TrainSpec& spec, const System& system) {
  if (stage.is_root()) {
    AtomicFolder folder(stage.workspace().checkpoint_folder(stage.key()));
    save_tensors(parameters_file(folder.path()), system.parameters(), {{"profile", to_json(spec.model).at("profile")}});
    write_json(settings_file(folder.path()),
               {{"model", to_json(spec.model)},
                {"train", to_json(spec.train)},
                {"clip", to_json(spec.clip)},
                {"descriptions", to_json(spec.descriptions)},
                {"trained_on", datasets_member(spec_member::dataset, spec.datasets).second},
                {"world_size", stage.communicator().world_size()}});
    folder.commit();
  }
  stage.communicator().barrier();
}

}  // namespace

void run_train(Stage& stage) {
  const TrainSpec spec = train_spec_from_json(stage.spec(), stage.spec_file());
  const ShardReader reader(feature_folders(stage));
  const std::vector<ImageBoxes> boxes = load_boxes_of(stage, spec.model);
  const auto clip = load_clip_of(stage, spec.clip, ClipTowers::text);
  const auto system = make_system(spec.model, spec.descriptions, clip, spec.train.seed);
  train(stage, spec.train, *system, reader, boxes);
  write_checkpoint(stage, spec, *system);
  stage.finish(Json::object(), {{artifact_name::checkpoint, artifact_name::checkpoint}});
}

}  // namespace filo
