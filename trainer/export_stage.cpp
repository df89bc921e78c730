#include "base/files.hpp"
#include "checkpoint/bundle.hpp"
#include "settings/clip_digest.hpp"
#include "trainer/stage_inputs.hpp"
#include "trainer/stages.hpp"
#include "workspace/checkpoint_files.hpp"

namespace filo {

void run_export(Stage& stage) {
  const ExportSpec spec = export_spec_from_json(stage.spec(), stage.spec_file());
  if (!stage.is_root()) return stage.finish({}, {});
  check_clip_of(spec.clip);
  const std::filesystem::path checkpoint = stage.workspace().checkpoint_folder(stage.input(spec_input::train));
  Json settings = read_json(settings_file(checkpoint));
  settings["model"]["clip"] = bundled_clip;
  settings["clip"]["path"] = bundled_clip;
  std::map<std::string, std::filesystem::path> files = {{parameters_name, parameters_file(checkpoint)}};
  for (const auto& name : clip_files())
    files[std::string(bundled_clip) + "/" + name] = std::filesystem::path(spec.clip.path) / name;
  const std::filesystem::path bundle = stage.output(artifact_name::bundle);
  write_bundle(bundle, files, settings);
  std::uintmax_t bytes = 0;
  for (const auto& [name, source] : files) bytes += std::filesystem::file_size(bundle / name);
  stage.finish({{"bytes", bytes}}, {{artifact_name::bundle, artifact_name::bundle}});
}

}  // namespace filo
