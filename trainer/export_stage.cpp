#include "base/files.hpp"
#include "checkpoint/bundle.hpp"
#include "settings/clip_digest.hpp"
#include "trainer/spec.hpp"
#include "trainer/stages.hpp"

namespace filo {

void run_export(Stage& stage) {
  const ExportSpec spec = parse_export_spec(stage.spec(), stage.folder() / "spec.json");
  if (!stage.is_root()) return stage.finish({}, {});
  check_clip_of(spec.clip);
  const std::filesystem::path checkpoint = stage.input_folder("train") / "checkpoint";
  Json settings = read_json(checkpoint / "settings.json");
  settings["model"]["clip"] = "clip";
  settings["clip"]["path"] = "clip";
  std::map<std::string, std::filesystem::path> files = {{"params.safetensors", checkpoint / "params.safetensors"}};
  for (const auto& name : clip_files()) files["clip/" + name] = std::filesystem::path(spec.clip.path) / name;
  write_bundle(stage.folder() / "bundle", files, settings);
  std::uintmax_t bytes = 0;
  for (const auto& [name, source] : files) bytes += std::filesystem::file_size(stage.folder() / "bundle" / name);
  stage.finish({{"bytes", bytes}}, {{"bundle", "bundle"}});
}

}  // namespace filo
