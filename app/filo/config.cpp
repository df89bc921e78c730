#include <iostream>
#include <memory>

#include "app/filo/commands.hpp"
#include "settings/experiment.hpp"

namespace filo {
namespace {

struct Options {
  std::string file;
  bool json = false;
};

int show(const Options& options) {
  const Experiment experiment = load_experiment(options.file);
  expand(experiment);  // what the axes make of it is checked too
  std::cout << (options.json ? to_json(experiment).dump(2) + "\n" : to_yaml(experiment));
  return 0;
}

}  // namespace

void add_config_command(CLI::App& program) {
  CLI::App* config = program.add_subcommand("config", "Looks at experiment files");
  config->require_subcommand(1);
  add_command(*config, "show", "Prints an experiment file with every setting resolved",
              [](CLI::App& command) -> Command {
                auto options = std::make_shared<Options>();
                command.add_option("FILE", options->file, "Experiment file (YAML)")->required();
                command.add_flag("--json", options->json, "Print JSON in place of YAML");
                return [options] { return show(*options); };
              });
}

}  // namespace filo
