// FILE and --base, the same for every subcommand that reads an experiment file.
#pragma once

#include <memory>
#include <string>

#include "app/command_line.hpp"
#include "settings/experiment/experiment.hpp"

namespace filo {

struct ExperimentOption {
  std::string file;
  LoadOptions load;
  Experiment read() const { return load_experiment(file, load); }
};

// The values are there once the command line is parsed.
inline std::shared_ptr<ExperimentOption> experiment_option(CLI::App& command) {
  auto option = std::make_shared<ExperimentOption>();
  command.add_option("FILE", option->file, "Experiment file (YAML)")->required();
  command.add_option("--base", option->load.base,
                     "Settings file that takes the place of `base:` in FILE and in what it includes\n"
                     "(configs/experiments/size-paper.yaml, size-demo.yaml)");
  return option;
}

}  // namespace filo
