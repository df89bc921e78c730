#include <iostream>
#include <memory>

#include "app/filo/commands.hpp"
#include "app/filo/executors.hpp"
#include "app/filo/workspace_option.hpp"
#include "base/error.hpp"

namespace filo {
namespace {

Json to_json(const CoordinatorPass& pass) {
  Json json = {{"experiments", pass.experiments}, {"stages", pass.stages},    {"counts", Json::object()},
               {"settled", pass.settled},         {"actions", Json::array()}, {"troubles", pass.troubles}};
  for (const auto& [state, number] : pass.counts) json["counts"][to_string(state)] = number;
  for (const auto& action : pass.actions) json["actions"].push_back({{"stage", action.stage}, {"text", action.text}});
  return json;
}

void print(const CoordinatorPass& pass) {
  for (const auto& action : pass.actions)
    std::cout << (action.stage.empty() ? "" : action.stage + "  ") << action.text << "\n";
  std::cout << pass.experiments << " active experiments, " << pass.stages << " stages:";
  for (const auto& [state, number] : pass.counts) std::cout << " " << number << " " << to_string(state);
  std::cout << (pass.actions.empty() ? "; nothing to do\n" : "\n");
}

int reconcile_once(bool json, const std::string& workspace_path) {
  const Workspace workspace(workspace_path, Workspace::Access::change);
  Coordinator coordinator(workspace, executor_factory(workspace, false), {});
  const CoordinatorPass pass = coordinator.pass();
  if (json)
    std::cout << to_json(pass).dump(2) << "\n";
  else
    print(pass);
  for (const auto& trouble : pass.troubles) std::cerr << "filo: " << trouble << "\n";
  return pass.troubles.empty() ? 0 : static_cast<int>(ExitCode::failed);
}

}  // namespace

void add_reconcile_command(CLI::App& program) {
  add_command(program, "reconcile",
              "One pass over all active experiments: records what ended, starts what is ready (for cron; local stages\n"
              "are started by filo run and filo serve only)",
              [](CLI::App& command) -> Command {
                auto json = std::make_shared<bool>(false);
                auto workspace = workspace_option(command);
                command.add_flag("--json", *json, "Print JSON");
                return [json, workspace] { return reconcile_once(*json, *workspace); };
              });
}

}  // namespace filo
