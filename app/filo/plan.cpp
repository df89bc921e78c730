#include <iostream>
#include <memory>

#include "app/filo/commands.hpp"
#include "app/filo/experiment_option.hpp"
#include "app/filo/workspace_option.hpp"
#include "scheduler/report/plan_summary.hpp"

namespace filo {
namespace {

int plan(const ExperimentOption& experiment, bool json, const std::string& workspace_path) {
  const Experiment read = experiment.read();
  const Workspace workspace(workspace_path, Workspace::Access::read);
  const Plan made = experiment.plan(read, workspace);
  const Json summary = plan_summary(workspace, made);
  std::cout << (json ? summary.dump(2) + "\n" : plan_summary_text(summary));
  return 0;
}

}  // namespace

void add_plan_command(CLI::App& program) {
  add_command(program, "plan", "Prints the trials and stages of an experiment, and what of it is done",
              [](CLI::App& command) -> Command {
                auto experiment = planned_experiment_option(command);
                auto workspace = workspace_option(command);
                auto json = std::make_shared<bool>(false);
                command.add_flag("--json", *json, "Print JSON");
                return [experiment, json, workspace] { return plan(*experiment, *json, *workspace); };
              });
}

}  // namespace filo
