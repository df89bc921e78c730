#include <iostream>

#include "app/worker/commands.hpp"
#include "base/json.hpp"
#include "checkpoint/files.hpp"
#include "model/systems/filo_release/import.hpp"

namespace filo {
namespace {

struct ImportOptions {
  std::string file, out;
  bool json = false;
};

void print_report(const ImportedCheckpoint& checkpoint, const ImportOptions& options) {
  if (options.json) {
    Json parameters = Json::object();
    for (const auto& [name, tensor] : checkpoint.parameters) parameters[name] = tensor.sizes().vec();
    const Json report = {{"parameters", parameters}, {"frozen", checkpoint.frozen}, {"unknown", checkpoint.unknown}};
    std::cout << report.dump() << "\n";
    return;
  }
  for (const auto& [name, tensor] : checkpoint.parameters)
    std::cout << name << " " << shape_to_string(tensor.sizes()) << "\n";
  std::cout << checkpoint.parameters.size() << " parameters written; left out: " << checkpoint.frozen.size()
            << " tensors of the frozen CLIP, " << checkpoint.unknown.size() << " unknown\n";
  for (const std::string& name : checkpoint.unknown) std::cout << "unknown: " << name << "\n";
}

}  // namespace

void add_import_checkpoint_command(CLI::App& program) {
  add_command(program, "import-checkpoint", "Read a checkpoint that FiLo published (.pth) into params.safetensors",
              [](CLI::App& command) -> Command {
                const auto options = std::make_shared<ImportOptions>();
                command.add_option("FILE", options->file, "What FiLo's train.py saved")->required();
                command.add_option("--out", options->out, "Folder that gets params.safetensors")->required();
                command.add_flag("--json", options->json, "Print what it held as JSON");
                return [options] {
                  const ImportedCheckpoint checkpoint = import_filo_checkpoint(options->file);
                  std::filesystem::create_directories(options->out);
                  save_tensors(parameters_file(options->out), checkpoint.parameters, checkpoint.metadata);
                  print_report(checkpoint, *options);
                  return 0;
                };
              });
}

}  // namespace filo
