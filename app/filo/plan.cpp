#include <iostream>
#include <memory>

#include "app/filo/commands.hpp"
#include "app/filo/workspace_option.hpp"
#include "scheduler/plan_summary.hpp"

namespace filo {
namespace {

struct Options {
  std::string file;
  bool json = false;
};

int plan(const Options& options, const std::string& workspace_path) {
  const Workspace workspace(workspace_path);
  const Plan made = make_plan(load_experiment(options.file), workspace);
  const Json summary = plan_summary(workspace, made);
  std::cout << (options.json ? summary.dump(2) + "\n" : plan_summary_text(summary));
  return 0;
}

}  // namespace

void add_plan_command(CLI::App& program) {
  add_command(program, "plan", "Prints the trials and stages of an experiment, and what of it is done",
              [](CLI::App& command) -> Command {
                auto options = std::make_shared<Options>();
                auto workspace = workspace_option(command);
                command.add_option("FILE", options->file, "Experiment file (YAML)")->required();
                command.add_flag("--json", options->json, "Print JSON");
                return [options, workspace] { return plan(*options, *workspace); };
              });
}

}  // namespace filo
