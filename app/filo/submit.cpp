#include <filesystem>
#include <iostream>
#include <map>
#include <memory>

#include "app/filo/commands.hpp"
#include "app/filo/executors.hpp"
#include "app/filo/experiment_option.hpp"
#include "app/filo/workspace_option.hpp"
#include "base/error.hpp"
#include "scheduler/control/requests.hpp"
#include "scheduler/executors/slurm_launch.hpp"
#include "scheduler/executors/slurm_submit.hpp"
#include "scheduler/plan/plan_file.hpp"
#include "scheduler/report/stage_use.hpp"
#include "workspace/server_file.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

enum class Resources { asked, learned };

struct Options {
  std::string cluster;
  Resources resources = Resources::asked;
  bool dry_run = false, no_watch = false, json = false;
};

void print_script(const Json& job) {
  for (const auto& word : job["command"]) std::cout << shell_quoted(word.get<std::string>()) << " ";
  const std::string script = job["script"];
  std::cout << "\n\n  " << job["command"].back().get<std::string>() << ":\n";
  std::size_t start = 0;
  for (std::size_t end = script.find('\n'); end != std::string::npos; end = script.find('\n', start)) {
    std::cout << "  | " << script.substr(start, end - start) << "\n";
    start = end + 1;
  }
}

void print_preview(const Json& preview) {
  if (preview["batches"].empty()) std::cout << "nothing is left to submit\n";
  for (const auto& batch : preview["batches"]) {
    std::cout << batch["when"].get<std::string>() << ": " << batch["stages"].size() << " stages\n";
    for (const auto& stage : batch["stages"])
      std::cout << "  " << stage["key"].get<std::string>() << "  " << stage["label"].get<std::string>() << "  attempt "
                << stage["attempt"] << "\n";
    print_script(batch);
    std::cout << "\n";
  }
  if (preview["watch"].is_null() || preview["batches"].empty()) return;
  std::cout << "then, until nothing is left to do:\n";
  print_script(preview["watch"]);
}

// The experiment's plan, and on standard error what of its stages' resources was learned.
Plan plan_of(const ExperimentOption& file, const Experiment& experiment, const Workspace& workspace,
             Resources resources) {
  Plan plan = file.plan(experiment, workspace);
  if (resources == Resources::asked) return plan;
  const auto changes = learn_resources(workspace, plan);
  for (const auto& change : changes) std::cerr << "filo: learned: " << change << "\n";
  if (changes.empty())
    std::cerr << "filo: learned: nothing; each stage asks for what the experiment says, since none like it has "
                 "finished in this workspace\n";
  return plan;
}

void activate(const Workspace& workspace, const Plan& plan, const ActiveExperiment& experiment) {
  save_plan(plan, workspace);
  retry_all(workspace, plan);
  workspace.write_active(experiment);
}

// Without a cluster: the workspace's server runs it on its machine.
int hand_to_server(const ExperimentOption& file, const Experiment& experiment, const Options& options,
                   const std::string& workspace_path) {
  const Workspace workspace(workspace_path, Workspace::Access::change);
  const auto url = server_url(workspace);
  if (!url)
    throw UsageError("submit: workspace " + workspace.root().string(),
                     "no filo serve looks after it, expected one (`filo serve --workspace " +
                         workspace.root().string() +
                         "`), or --cluster FILE; `filo run FILE` runs an experiment without");
  const Plan plan = plan_of(file, experiment, workspace, options.resources);
  const std::string stages = std::to_string(plan.stages.size()) + " stages";
  if (!options.dry_run) activate(workspace, plan, {.name = plan.name, .executor = "local", .cluster = ""});
  if (options.json)
    std::cout << Json({{"experiment", plan.name}, {"server", *url}, {"stages", plan.stages.size()}}).dump(2) << "\n";
  else
    std::cout << plan.name << ": " << stages << (options.dry_run ? " would be" : "") << " handed to filo serve at "
              << *url << "\nfilo status " << plan.name << " --workspace " << workspace.root().string() << "\n";
  return 0;
}

int submit(const ExperimentOption& file, const Options& options, const std::string& workspace_path) {
  const Experiment experiment = file.read();
  if (options.cluster.empty()) return hand_to_server(file, experiment, options, workspace_path);
  const ClusterSettings settings = load_cluster_settings(options.cluster);
  const Workspace workspace(workspace_path, Workspace::Access::change);
  const Plan plan = plan_of(file, experiment, workspace, options.resources);
  const std::string worker = worker_on_nodes(settings);
  const fs::path filo = fs::read_symlink("/proc/self/exe");
  if (options.dry_run) {
    const Json preview = slurm_preview(workspace, plan, settings, worker, filo);
    if (options.json)
      std::cout << preview.dump(2) << "\n";
    else
      print_preview(preview);
    return 0;
  }
  activate(
      workspace, plan,
      {.name = plan.name, .executor = "slurm", .cluster = fs::absolute(options.cluster).lexically_normal().string()});

  Coordinator coordinator(workspace, executor_factory(workspace, false), {});
  const CoordinatorPass pass = coordinator.pass();
  const auto statuses = coordinator.statuses(plan);
  std::map<std::string, int> counts;
  for (const auto& status : statuses) ++counts[to_string(status.state)];
  std::string watch;
  if (settings.watch && !options.no_watch && !is_settled(statuses)) {
    SlurmCommands commands(settings);
    watch = submit_watch(workspace, settings, filo, worker, commands);
  }
  if (options.json) {
    Json json = {{"experiment", plan.name}, {"cluster", settings.name}, {"counts", counts}, {"watch", watch}};
    std::cout << json.dump(2) << "\n";
  } else {
    std::cout << plan.name << " on " << settings.name << ":";
    for (const auto& [state, count] : counts) std::cout << " " << count << " " << state;
    std::cout << "\n";
    if (!watch.empty()) std::cout << "job " << watch << " starts the rest as it becomes ready\n";
    std::cout << "filo status " << plan.name << " --workspace " << workspace.root().string() << "\n";
  }
  for (const auto& trouble : pass.troubles) std::cerr << "filo: " << trouble << "\n";
  for (std::size_t i = 0; i < statuses.size(); ++i)
    if (const StageStatus& status = statuses[i]; status.state == StageState::failed || !status.reason.empty())
      std::cerr << "filo: " << plan.stages[i].label << " (" << status.key << "): " << status.reason << "\n";
  return is_settled(statuses) && !all_done(statuses) ? static_cast<int>(ExitCode::failed) : 0;
}

}  // namespace

void add_submit_command(CLI::App& program) {
  add_command(
      program, "submit", "Hands an experiment to a Slurm cluster, or to the filo serve of its workspace, and returns",
      [](CLI::App& command) -> Command {
        auto options = std::make_shared<Options>();
        auto experiment = planned_experiment_option(command);
        auto workspace = workspace_option(command);
        command.add_option("--cluster", options->cluster,
                           "Cluster file (configs/clusters/*.yaml); without it the workspace's filo serve runs it");
        add_choice<Resources>(command, "--resources", options->resources,
                              {{"asked", Resources::asked}, {"learned", Resources::learned}},
                              "What stages ask for: asked, as the experiment says (the default); learned, from "
                              "finished stages like them (filo report --resources)");
        command.add_flag("--dry-run", options->dry_run, "Print the scripts and commands, and send nothing");
        command.add_flag("--no-watch", options->no_watch, "Leave no job behind that starts the later stages");
        command.add_flag("--json", options->json, "Print JSON");
        return [experiment, options, workspace] { return submit(*experiment, *options, *workspace); };
      });
}

}  // namespace filo
