#include <iostream>

#include "app/worker/commands.hpp"
#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"
#include "base/json.hpp"
#include "model/systems/filo_release/import.hpp"
#include "settings/clip_digest.hpp"
#include "settings/descriptions.hpp"
#include "settings/model.hpp"
#include "workspace/checkpoint_files.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

struct ImportOptions {
  std::string file, out, model = "configs/models/filo-release.yaml", clip, descriptions;
  bool json = false;
};

// A folder beside the file, called as it without its ending.
fs::path default_folder(const fs::path& file) { return file.parent_path() / file.stem(); }

// The checkpoint's settings.json. What the parameters themselves tell stands in place of what the YAML file says.
Json settings_of(const ImportedCheckpoint& checkpoint, const ImportOptions& options) {
  ModelSettings model = load_model_settings(options.model);
  if (!options.clip.empty()) model.clip = fs::absolute(options.clip).lexically_normal().string();
  if (!options.descriptions.empty()) model.prompts.descriptions = options.descriptions;
  apply_shapes(checkpoint.parameters, model, "import-checkpoint: " + options.file);
  return {{"model", to_json(model)},
          {"clip", {{"path", model.clip}, {"digest", options.clip.empty() ? "" : clip_digest(model.clip)}}},
          {"descriptions", to_json(descriptions_named(model.prompts.descriptions, {}))},
          {"imported", {{"file", options.file}, {"digest", sha256_hex_of_file(options.file)}}}};
}

void print_report(const ImportedCheckpoint& checkpoint, const ImportOptions& options) {
  if (options.json) {
    Json parameters = Json::object();
    for (const auto& [name, tensor] : checkpoint.parameters) parameters[name] = tensor.sizes().vec();
    const Json report = {{"out", options.out},
                         {"parameters", parameters},
                         {"frozen", checkpoint.frozen},
                         {"unknown", checkpoint.unknown}};
    std::cout << report.dump() << "\n";
    return;
  }
  for (const auto& [name, tensor] : checkpoint.parameters)
    std::cout << name << " " << shape_to_string(tensor.sizes()) << "\n";
  std::cout << checkpoint.parameters.size() << " parameters written to " << options.out
            << "; left out: " << checkpoint.frozen.size() << " tensors of the frozen CLIP, "
            << checkpoint.unknown.size() << " unknown\n";
  for (const std::string& name : checkpoint.unknown) std::cout << "unknown: " << name << "\n";
  if (options.clip.empty())
    std::cout << "without --clip nobody checks that the weights it is used with are those it was trained over\n";
  std::cout << "filo-worker predict --checkpoint " << options.out << " --class CLASS --image FILE\n";
}

int import_checkpoint(ImportOptions options) {
  const ImportedCheckpoint checkpoint = import_filo_checkpoint(options.file);
  const Json settings = settings_of(checkpoint, options);
  if (options.out.empty()) options.out = default_folder(options.file).string();
  if (fs::exists(options.out) && !fs::exists(settings_file(options.out)))
    throw UsageError("import-checkpoint: --out " + options.out,
                     "is there, and is no checkpoint; expected a new folder, or one that an import may replace");
  AtomicFolder folder(options.out);
  save_tensors(parameters_file(folder.path()), checkpoint.parameters, checkpoint.metadata);
  write_json(settings_file(folder.path()), settings);
  folder.commit();
  print_report(checkpoint, options);
  return 0;
}

}  // namespace

void add_import_checkpoint_command(CLI::App& program) {
  add_command(program, "import-checkpoint", "Make a checkpoint that FiLo published (.pth) one that predict takes",
              [](CLI::App& command) -> Command {
                const auto options = std::make_shared<ImportOptions>();
                command.add_option("FILE", options->file, "What FiLo's train.py saved")->required();
                command.add_option("--out", options->out,
                                   "Folder that gets params.safetensors and settings.json\n"
                                   "(default: FILE without its ending)");
                command.add_option("--clip", options->clip,
                                   "The CLIP folder it was trained over; its digest is kept, and checked at each use");
                command.add_option("--descriptions", options->descriptions,
                                   "The descriptions of its prompts (filo descriptions import writes FiLo's own)");
                command.add_option("--model", options->model, "YAML with the model: part of an experiment")
                    ->capture_default_str();
                command.add_flag("--json", options->json, "Print what it held as JSON");
                return [options] { return import_checkpoint(*options); };
              });
}

}  // namespace filo
