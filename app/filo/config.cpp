#include <iostream>
#include <memory>

#include "app/filo/commands.hpp"
#include "app/filo/experiment_option.hpp"
#include "scheduler/plan/clip_activation.hpp"

namespace filo {
namespace {

int show(const ExperimentOption& option, bool json) {
  Experiment experiment = option.read();
  const auto check = [](const Variant&) {};  // what the axes make of it is checked too
  for_each_variant(experiment, check);
  for (const auto& part : experiment.included) for_each_variant(part, check);
  fill_in_clip_activation(experiment.resolved);
  for (auto& part : experiment.included) fill_in_clip_activation(part.resolved);
  std::cout << (json ? to_json(experiment).dump(2) + "\n" : to_yaml(experiment));
  return 0;
}

}  // namespace

void add_config_command(CLI::App& program) {
  CLI::App& config = add_command_family(program, "config", "Looks at experiment files");
  add_command(config, "show", "Prints an experiment file with every setting resolved",
              [](CLI::App& command) -> Command {
                auto experiment = experiment_option(command);
                auto json = std::make_shared<bool>(false);
                command.add_flag("--json", *json, "Print JSON in place of YAML");
                return [experiment, json] { return show(*experiment, *json); };
              });
}

}  // namespace filo
