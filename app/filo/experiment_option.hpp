// FILE, --base and --allow-shared, the same for every subcommand that reads or plans an experiment file.
#pragma once

#include <memory>
#include <string>

#include "app/command_line.hpp"
#include "scheduler/plan/plan.hpp"
#include "settings/experiment/experiment.hpp"

namespace filo {

struct ExperimentOption {
  std::string file;
  LoadOptions load;
  int allow_shared = 0;
  Experiment read() const { return load_experiment(file, load); }
  Plan plan(const Experiment& experiment, const Workspace& workspace) const {
    return make_plan(experiment, workspace, allow_shared);
  }
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

inline std::shared_ptr<ExperimentOption> planned_experiment_option(CLI::App& command) {
  auto option = experiment_option(command);
  add_number(command, "--allow-shared", option->allow_shared,
             "Images that a fold may both train on and test; the report says how many it did", 0);
  return option;
}

}  // namespace filo
