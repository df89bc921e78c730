#include <iostream>
#include <map>
#include <memory>

#include "app/filo/commands.hpp"
#include "app/filo/workspace_option.hpp"
#include "scheduler/reconcile.hpp"

namespace filo {
namespace {

struct Options {
  std::string experiment;
  bool json = false;
};

Json status_of(const Workspace& workspace, const std::string& name) {
  const Plan plan = load_plan(workspace, name);
  const auto statuses = observe(workspace, plan);
  Json json = {{"experiment", name}, {"counts", Json::object()}, {"stages", Json::array()}};
  std::map<std::string, int> counts;
  for (std::size_t i = 0; i < statuses.size(); ++i) {
    const StageStatus& status = statuses[i];
    ++counts[to_string(status.state)];
    json["stages"].push_back(
        {{"key", status.key},
         {"kind", to_string(plan.stages[i].kind)},
         {"label", plan.stages[i].label},
         {"state", to_string(status.state)},
         {"attempt", status.attempt},
         {"reason", status.reason},
         {"log_tail", status.state == StageState::failed ? workspace.log_tail(status.key, status.attempt, 5) : ""}});
  }
  json["counts"] = counts;
  return json;
}

void print(const Json& status) {
  std::cout << status["experiment"].get<std::string>() << ":";
  for (const auto& [state, count] : status["counts"].items()) std::cout << " " << count << " " << state;
  std::cout << "\n";
  for (const auto& stage : status["stages"]) {
    std::cout << "  " << stage["key"].get<std::string>() << "  " << stage["state"].get<std::string>() << "  "
              << stage["label"].get<std::string>();
    if (stage["attempt"] > 0) std::cout << "  attempt " << stage["attempt"];
    if (stage["reason"] != "") std::cout << "  " << stage["reason"].get<std::string>();
    std::cout << "\n";
    if (stage["log_tail"] != "") {
      std::string tail = "      " + stage["log_tail"].get<std::string>();
      for (std::size_t at = tail.find('\n'); at != std::string::npos; at = tail.find('\n', at + 1))
        tail.insert(at + 1, "      ");
      std::cout << tail << "\n";
    }
  }
}

int status(const Options& options, const std::string& workspace_path) {
  const Workspace workspace(workspace_path);
  const auto names =
      options.experiment.empty() ? experiment_names(workspace) : std::vector<std::string>{options.experiment};
  Json all = Json::array();
  for (const auto& name : names) all.push_back(status_of(workspace, name));
  if (options.json) {
    std::cout << all.dump(2) << "\n";
    return 0;
  }
  if (all.empty()) std::cout << "no experiment has run in " << workspace.root().string() << " yet (filo run FILE)\n";
  for (const auto& one : all) print(one);
  return 0;
}

}  // namespace

void add_status_command(CLI::App& program) {
  add_command(program, "status", "Prints the state of each stage, and why a stage failed",
              [](CLI::App& command) -> Command {
                auto options = std::make_shared<Options>();
                auto workspace = workspace_option(command);
                command.add_option("EXPERIMENT", options->experiment, "Name of an experiment (default: all)");
                command.add_flag("--json", options->json, "Print JSON");
                return [options, workspace] { return status(*options, *workspace); };
              });
}

}  // namespace filo
