#include "scheduler/executors/slurm_submit.hpp"

#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_map>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"
#include "scheduler/executors/bad_nodes.hpp"
#include "scheduler/executors/slurm_batch.hpp"
#include "scheduler/executors/slurm_launch.hpp"
#include "settings/tracking.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

std::string command_line(const std::vector<std::string>& words) {
  std::string line;
  for (const auto& word : words) line += (line.empty() ? "" : " ") + shell_quoted(word);
  return line;
}

// The successor is sent after the first pass only, and the watch ends when everything that can be looked after is
// settled, whatever else is broken: what cannot work is no endless chain of jobs. It leaves nothing in the workspace,
// and its output goes nowhere (watch_arguments()): what passes did is told by the workspace itself.
constexpr const char* loop = R"sh(
stopping=
trap 'stopping=1' USR2 TERM
first=1
while :; do
  settled=$(timeout --kill-after=10 600 "$filo" reconcile --workspace "$workspace" --json </dev/null |
    grep -o '"settled": *true'; exit "${PIPESTATUS[0]}")
  code=$?
  [ "$code" -le 1 ] || settled=
  [ -z "$settled" ] || exit "$code"
  [ -z "$first" ] || [ "$code" -le 1 ] || exit "$code"
  first=
  if waiting=$(timeout 30 squeue --noheader --me --states=PENDING --name="$name" --format=%i) && [ -z "$waiting" ]; then
    timeout 30 "${successor[@]}" >/dev/null
  fi
  [ -z "$stopping" ] || exit 0
  sleep "$interval" &
  wait $!
  [ -z "$stopping" ] || exit 0
done
)sh";

}  // namespace

std::string watch_name(const Workspace& workspace, const ClusterSettings& settings) {
  return "filo-watch-" + sha256_hex(workspace.root().string() + "\n" + settings.name).substr(0, 12);
}

std::string watch_script(const Workspace& workspace, const ClusterSettings& settings, const fs::path& filo,
                         const std::string& worker) {
  std::vector<std::string> successor = {"sbatch"};
  for (const auto& argument : watch_arguments(workspace, settings)) successor.push_back(argument);
  std::string text = "#!/bin/bash\n# Made by filo: goes on reconciling a workspace until nothing is left to do.\n";
  text += "filo=" + shell_quoted(filo.string()) + "\n";
  text += "export FILO_WORKER=" + shell_quoted(worker) + "\n";
  text += "workspace=" + shell_quoted(workspace.root().string()) + "\n";
  text += "name=" + shell_quoted(watch_name(workspace, settings)) + "\n";
  text += "interval=" + Json(settings.watch_interval_s).dump() + "\n";
  text += "successor=(" + command_line(successor) + ")\n";
  if (!settings.slurm_bin.empty()) text += "PATH=" + shell_quoted(settings.slurm_bin) + ":$PATH\n";
  text += "unset \"${!SBATCH_@}\" \"${!SQUEUE_@}\"\n";
  return text + loop;
}

std::vector<std::string> watch_arguments(const Workspace& workspace, const ClusterSettings& settings) {
  std::vector<std::string> arguments = {"--parsable",
                                        "--job-name=" + watch_name(workspace, settings),
                                        "--dependency=singleton",
                                        "--comment=filo " + workspace.root().string(),
                                        "--output=/dev/null",
                                        "--chdir=" + fs::current_path().string(),
                                        "--export=ALL",
                                        "--requeue",
                                        "--signal=B:USR2@60",
                                        "--time=" + settings.watch_time,
                                        "--ntasks=1",
                                        "--cpus-per-task=1"};
  for (const auto& option : slurm_site_options(settings)) arguments.push_back(option);
  arguments.insert(arguments.end(), settings.watch_options.begin(), settings.watch_options.end());
  arguments.push_back(workspace.slurm_watch_file(settings.name).string());
  return arguments;
}

std::string submit_watch(const Workspace& workspace, const ClusterSettings& settings, const fs::path& filo,
                         const std::string& worker, SlurmCommands& commands) {
  fs::create_directories(workspace.slurm_folder());
  write_file_atomically(workspace.slurm_watch_file(settings.name), watch_script(workspace, settings, filo, worker));
  const auto answer = commands.submit(watch_arguments(workspace, settings), {}, tracking_variables());
  if (answer.outcome == SlurmSubmission::Outcome::taken) return std::to_string(answer.id);
  throw Error("slurm: the watch", "is not in the queue: " + answer.message +
                                      "; what was submitted runs, but `filo reconcile` has to start the rest");
}

Json slurm_preview(const Workspace& workspace, const Plan& plan, const ClusterSettings& settings,
                   const std::string& worker, const fs::path& filo) {
  expect_mountable(settings, workspace.root());
  expect_mountable(settings, fs::current_path());
  struct Group {
    SlurmBatch batch;
    Json stages = Json::array();
  };
  std::unordered_map<std::string, StageKind> kinds;
  for (const auto& stage : plan.stages) kinds.emplace(stage.key, stage.kind);
  std::map<std::tuple<bool, StageKind, std::string>, std::vector<Group>> groups;  // by "must wait", kind and shape
  for (const auto& stage : plan.stages) {
    if (workspace.result(stage.key, stage.kind)) continue;
    const bool waits = std::any_of(stage.inputs.begin(), stage.inputs.end(),
                                   [&](const std::string& input) { return !workspace.result(input, kinds.at(input)); });
    const ResourceSettings resources = within_limits(stage.resources, settings);
    auto& shape = groups[{waits, waits ? stage.kind : StageKind::features, to_json(resources).dump()}];
    if (shape.empty() || shape.back().batch.entries.size() == static_cast<std::size_t>(settings.max_array_size)) {
      shape.emplace_back();
      shape.back().batch.cluster = settings.name;
      shape.back().batch.folder = fs::current_path().string();
      shape.back().batch.resources = resources;
    }
    Group& group = shape.back();
    const int attempt = workspace.newest_attempt(stage.key) + 1;
    group.batch.entries.push_back({stage.key, attempt, stage.kind, stage.inputs});
    group.stages.push_back({{"key", stage.key}, {"label", stage.label}, {"attempt", attempt}});
  }
  Json preview = {
      {"experiment", plan.name}, {"cluster", settings.name}, {"batches", Json::array()}, {"watch", nullptr}};
  int number = 0;
  for (auto& [shape, list] : groups)
    for (auto& group : list) {
      group.batch.name = "filo-preview" + std::to_string(++number);
      const fs::path script = workspace.slurm_script_file(group.batch.name);
      Json command = {"sbatch"};
      for (const auto& argument : slurm_arguments(group.batch, settings, workspace, script))
        command.push_back(argument);
      preview["batches"].push_back({{"when", std::get<0>(shape) ? "when its inputs are done" : "now"},
                                    {"stages", group.stages},
                                    {"command", command},
                                    {"script", slurm_script(group.batch, settings, workspace, worker)}});
    }
  if (settings.watch) {
    Json command = {"sbatch"};
    for (const auto& argument : watch_arguments(workspace, settings)) command.push_back(argument);
    preview["watch"] = {{"command", command}, {"script", watch_script(workspace, settings, filo, worker)}};
  }
  return preview;
}

}  // namespace filo
