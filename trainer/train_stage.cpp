#include "base/files.hpp"
#include "base/hash.hpp"
#include "data/shards/shard_reader.hpp"
#include "model/systems/system.hpp"
#include "trainer/loop.hpp"
#include "trainer/stage_inputs.hpp"
#include "trainer/stages.hpp"
#include "workspace/checkpoint_files.hpp"

namespace filo {
namespace {

void write_checkpoint(const Stage& stage, const System& system, const Json& settings) {
  if (stage.is_root()) {
    AtomicFolder folder(stage.output(artifact_name::checkpoint));
    save_tensors(parameters_file(folder.path()), system.parameters(), {{"profile", settings["model"]["profile"]}});
    write_json(settings_file(folder.path()), settings);
    folder.commit();
  }
  stage.communicator().barrier();
}

// Takes a checkpoint that is there: read, checked against the model, written as if it had been trained here.
void run_import(Stage& stage) {
  const ImportSpec spec = import_spec_from_json(stage.spec(), stage.spec_file());
  const std::filesystem::path parameters = parameters_file(spec.checkpoint.path);
  expect_planned("train: " + parameters.string(), "its digest", sha256_hex_of_file(parameters), spec.checkpoint.digest);
  Json settings = read_json(settings_file(spec.checkpoint.path));
  const auto clip = load_clip_of(stage, spec.clip, spec.model, ClipTowers::text);
  const auto system = make_system(
      spec.model, descriptions_from_json(settings.at("descriptions"), settings_file(spec.checkpoint.path).string()),
      clip, 0);
  system->load_parameters(load_tensors(parameters), parameters.string());
  settings["model"] = to_json(spec.model);
  settings["clip"] = to_json(spec.clip);
  write_checkpoint(stage, *system, settings);
  stage.finish(Json::object(), {{artifact_name::checkpoint, artifact_name::checkpoint}});
}

}  // namespace

void run_train(Stage& stage) {
  if (stage.spec().contains(spec_member::checkpoint)) return run_import(stage);
  const TrainSpec spec = train_spec_from_json(stage.spec(), stage.spec_file());
  const FeatureFolders folders(stage);
  const ShardReader reader(folders.paths());
  const std::vector<ImageBoxes> boxes = load_boxes_of(stage, spec.model);
  const auto clip = load_clip_of(stage, spec.clip, spec.model, ClipTowers::text);
  const auto system = make_system(spec.model, spec.descriptions, clip, spec.train.seed);
  train(stage, spec.train, *system, reader, boxes);
  write_checkpoint(stage, *system,
                   {{"model", to_json(spec.model)},
                    {"train", to_json(spec.train)},
                    {"clip", to_json(spec.clip)},
                    {"descriptions", to_json(spec.descriptions)},
                    {"trained_on", datasets_member(spec_member::dataset, spec.datasets).second},
                    {"world_size", stage.communicator().world_size()}});
  stage.finish(Json::object(), {{artifact_name::checkpoint, artifact_name::checkpoint}});
}

}  // namespace filo
