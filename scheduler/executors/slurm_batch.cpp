#include "scheduler/executors/slurm_batch.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "base/text.hpp"
#include "scheduler/executors/bad_nodes.hpp"
#include "scheduler/executors/slurm_launch.hpp"
#include "settings/resources.hpp"

namespace filo {
namespace {

const char* name_of(SlurmBatch::State state) {
  switch (state) {
    case SlurmBatch::State::prepared:
      return "prepared";
    case SlurmBatch::State::submitting:
      return "submitting";
    case SlurmBatch::State::submitted:
      return "submitted";
  }
  return "";
}

SlurmBatch::State state_of(const std::string& name) {
  for (const auto state : {SlurmBatch::State::prepared, SlurmBatch::State::submitting, SlurmBatch::State::submitted})
    if (name == name_of(state)) return state;
  throw Error("slurm", "found the state \"" + name + "\", expected prepared, submitting or submitted");
}

std::string joined(const std::vector<std::string>& words, const char* between) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : between) + word;
  return text;
}

template <typename Text>
std::string table(const std::string& name, const SlurmBatch& batch, Text text) {
  std::string line = name + "=(";
  for (const auto& entry : batch.entries) line += (line.back() == '(' ? "" : " ") + text(entry);
  return line + ")\n";
}

// "0-3,5": the indices that were not dropped.
std::string index_ranges(const SlurmBatch& batch) {
  std::string ranges;
  for (std::size_t i = 0; i < batch.entries.size(); ++i) {
    if (batch.entries[i].dropped) continue;
    std::size_t last = i;
    while (last + 1 < batch.entries.size() && !batch.entries[last + 1].dropped) ++last;
    ranges += (ranges.empty() ? "" : ",") + std::to_string(i) + (last > i ? "-" + std::to_string(last) : "");
    i = last;
  }
  return ranges;
}

// The part that waits: bash's wait returns when a trap has run, and then has to be called again.
constexpr const char* wait_part = R"sh(child=$!
[ -z "$stopping" ] || kill -USR2 "$child" 2>/dev/null
code=1
while :; do
  interrupted=
  wait "$child"
  status=$?
  [ "$status" != 127 ] || break
  code=$status
  [ -n "$interrupted" ] || break
done
# Ranks that the launcher ended while the first one left with its snapshot: that is a stop, too.
[ -z "$stopping" ] || [ "$code" -le 128 ] || code=75
leave "$code"
)sh";

// Each @mark@ is a path that start_part() puts in.
constexpr const char* start_template = R"sh(index=${SLURM_ARRAY_TASK_ID:-0}
kind=${kinds[index]} stage=${stages[index]} attempt=${attempts[index]}
folder=@attempts@/$attempt
node=${SLURMD_NODENAME:-$(hostname)}
soon() {  # soon FOLDER COMMAND...: a network file system may show late what another host wrote
  local listed=$1 left=$late_s
  shift
  until "$@" 2>/dev/null; do
    [ "$left" -gt 0 ] || return 1
    [ "$left" != "$late_s" ] || echo "filo: waiting for up to $left s for what another host wrote in $listed"
    sleep 1
    left=$((left - 1))
    ls "$listed" >/dev/null 2>&1
  done
}
open_log() { { : >>"$folder/@log@"; } 2>/dev/null; }
soon "@attempts@" open_log >/dev/null || exit @unhealthy@
exec >>"$folder/@log@" 2>&1 </dev/null
rm -f "$folder/@exit@"
echo "filo: Slurm job $SLURM_JOB_ID${SLURM_ARRAY_JOB_ID:+ (${SLURM_ARRAY_JOB_ID}_$index)} start $((${SLURM_RESTART_COUNT:-0} + 1)) on $(hostname), $(date -u +%FT%TZ)"

session=
leave() {  # leave CODE: for a coordinator that looks when Slurm has forgotten the job
  [ -z "$session" ] || rm -rf "$session"
  echo "$SLURM_JOB_ID ${SLURM_RESTART_COUNT:-0} $1 $node $SECONDS" >"$folder/.exit.$SLURM_JOB_ID" && mv -f "$folder/.exit.$SLURM_JOB_ID" "$folder/@exit@"
  exit "$1"
}
refuse() { echo "filo: $*" >&2; leave 1; }

stopping= interrupted= child=
stop() { stopping=1 interrupted=1; [ -z "$child" ] || kill -USR2 "$child" 2>/dev/null; }
trap stop USR2 TERM

# A copy of this job that Slurm or its controller brought back from the dead must not run.
[ ! -e "$folder/@end@" ] || refuse "attempt $attempt was given up before this job started"
[ ! -e "@attempts@/$((attempt + 1))" ] || refuse "attempt $attempt was superseded before this job started"
for input in ${inputs[index]}; do
  soon "@input@" grep -q "\"stage\": *\"$input\"" "@result@" ||
    refuse "stage $input, which this one needs, has no valid result.json"
done

unset "${!SBATCH_@}" "${!SQUEUE_@}" SLURM_EXPORT_ENV SLURM_CPU_BIND "${!SLURM_CPU_BIND_@}"
export FILO_SERVER_FILE=@server@
# Open MPI's jobs of one user on a node share a folder, which one removes while another makes its own in it.
session=$(mktemp -d "${TMPDIR:-/tmp}/filo-XXXXXX") && export OMPI_MCA_orte_tmpdir_base=$session
)sh";

// The paths of workspace/layout.hpp in the script's own variables.
std::string start_part() {
  const WorkspaceLayout layout("$workspace");
  const auto name = [](const std::filesystem::path& file) { return file.filename().string(); };
  const std::vector<std::pair<std::string, std::string>> paths = {
      {"@attempts@", layout.attempts_folder("$stage").string()},
      {"@input@", layout.stage_folder("$input").string()},
      {"@result@", layout.result_file("$input").string()},
      {"@server@", layout.server_file().string()},
      {"@log@", name(layout.log_file("", 1))},
      {"@exit@", name(layout.exit_file("", 1))},
      {"@end@", name(layout.outcome_file("", 1))},
      {"@unhealthy@", std::to_string(unhealthy_node_exit)}};
  std::string text = start_template;
  for (const auto& [mark, path] : paths) text = replaced(std::move(text), mark, path);
  return text;
}

}  // namespace

Json to_json(const SlurmBatch& batch) {
  Json entries = Json::array();
  for (const auto& entry : batch.entries) {
    entries.push_back({{"stage", entry.stage},
                       {"attempt", entry.attempt},
                       {"kind", to_string(entry.kind)},
                       {"inputs", entry.inputs}});
    if (entry.dropped) entries.back()["dropped"] = true;
  }
  return {{"name", batch.name},
          {"cluster", batch.cluster},
          {"folder", batch.folder},
          {"resources", to_json(batch.resources)},
          {"entries", entries},
          {"state", name_of(batch.state)},
          {"since", batch.since},
          {"job_id", batch.job_id},
          {"released_at", batch.released_at},
          {"released", batch.released},
          {"exclude", batch.exclude},
          {"message", batch.message}};
}

SlurmBatch slurm_batch_from_json(const Json& json, const std::string& where) {
  try {
    SlurmBatch batch{.name = json.at("name"),
                     .cluster = json.at("cluster"),
                     .folder = json.at("folder"),
                     .resources = resource_settings_from_json(json.at("resources"), where),
                     .entries = {},
                     .state = state_of(json.at("state")),
                     .since = json.at("since"),
                     .job_id = json.at("job_id"),
                     .released_at = json.at("released_at"),
                     .released = json.at("released"),
                     .exclude = json.value("exclude", std::vector<std::string>()),
                     .message = json.at("message")};
    for (const auto& entry : json.at("entries"))
      batch.entries.push_back({.stage = entry.at("stage"),
                               .attempt = entry.at("attempt"),
                               .kind = stage_kind(entry.at("kind")),
                               .inputs = entry.at("inputs"),
                               .dropped = entry.value("dropped", false)});
    return batch;
  } catch (const Json::exception& error) {
    throw Error("slurm: " + where, std::string("found a broken record, expected one that filo wrote: ") + told(error));
  }
}

ResourceSettings within_limits(ResourceSettings wanted, const ClusterSettings& settings) {
  if (!settings.max_time.empty() && time_in_seconds(wanted.time) > time_in_seconds(settings.max_time))
    wanted.time = settings.max_time;
  if (!settings.max_memory.empty() && memory_in_bytes(wanted.memory) > memory_in_bytes(settings.max_memory))
    wanted.memory = settings.max_memory;
  return wanted;
}

std::string slurm_script(const SlurmBatch& batch, const ClusterSettings& settings, const Workspace& workspace,
                         const std::string& worker) {
  using Entry = SlurmBatch::Entry;
  std::string text = "#!/bin/bash\n# Made by filo: batch " + batch.name + ", one stage for each array index.\n";
  text += "workspace=" + shell_quoted(workspace.root().string()) + "\n";
  text += "worker=" + shell_quoted(worker) + "\n";
  text += "late_s=" + std::to_string(std::lround(settings.result_grace_s)) + "\n";
  text += table("kinds", batch, [](const Entry& entry) { return to_string(entry.kind); });
  text += table("stages", batch, [](const Entry& entry) { return entry.stage; });
  text += table("attempts", batch, [](const Entry& entry) { return std::to_string(entry.attempt); });
  text += table("inputs", batch, [](const Entry& entry) { return shell_quoted(joined(entry.inputs, " ")); });
  text += start_part();
  text += "export OMP_NUM_THREADS=" + std::to_string(batch.resources.threads) + "\n";
  text += slurm_site_preamble(settings);
  text += health_check(settings, batch.resources);
  if (settings.container.runtime == ContainerRuntime::none)
    text +=
        "[ -x \"$worker\" ] || refuse \"found no program $worker on $(hostname), expected filo-worker (key worker of "
        "the cluster file)\"\n";
  if (settings.container.runtime == ContainerRuntime::apptainer)
    text +=
        "command -v apptainer >/dev/null || refuse \"found no program apptainer on $(hostname), expected it (key "
        "container.runtime of the cluster file; modules can load it)\"\n";
  text += "[ -z \"$stopping\" ] || leave 75\n";
  text += slurm_launch_command(settings, batch.resources, {"workspace", "PWD", "session"});
  text += R"( "$kind" --workspace "$workspace" --stage "$stage" --attempt "$attempt" --threads )" +
          std::to_string(batch.resources.threads);
  for (const auto& option : worker_options(batch.resources)) text += " " + option;
  return text + " &\n" + wait_part;
}

std::vector<std::string> slurm_site_options(const ClusterSettings& settings) {
  std::vector<std::string> options;
  const auto add = [&](const char* option, const std::string& value) {
    if (!value.empty()) options.push_back(std::string(option) + "=" + value);
  };
  add("--partition", settings.partition);
  add("--account", settings.account);
  add("--qos", settings.qos);
  add("--constraint", settings.constraint);
  return options;
}

std::vector<std::string> slurm_arguments(const SlurmBatch& batch, const ClusterSettings& settings,
                                         const Workspace& workspace, const std::filesystem::path& script) {
  const ResourceSettings& resources = batch.resources;
  const int cores = resources.ranks * resources.threads;
  const auto lead_s = std::clamp<std::int64_t>(time_in_seconds(resources.time) / 2, 1, settings.signal_lead_s);
  std::vector<std::string> arguments = {"--parsable",
                                        "--hold",
                                        "--job-name=" + batch.name,
                                        "--comment=filo " + workspace.root().string(),
                                        "--output=/dev/null",  // the script writes attempts/N/log.txt
                                        "--chdir=" + batch.folder,
                                        "--export=ALL",
                                        settings.requeue ? "--requeue" : "--no-requeue",
                                        "--signal=B:USR2@" + std::to_string(lead_s),
                                        "--time=" + resources.time,
                                        "--ntasks=" + std::to_string(resources.ranks),
                                        "--cpus-per-task=" + std::to_string(resources.threads)};
  if (batch.entries.size() > 1) arguments.push_back("--array=" + index_ranges(batch));
  if (settings.one_node) arguments.push_back("--nodes=1");
  const std::uint64_t megabyte = 1 << 20, bytes = memory_in_bytes(resources.memory);
  const auto megabytes = [&](std::uint64_t share) { return std::to_string((share + megabyte - 1) / megabyte) + "M"; };
  if (settings.memory == MemoryForm::per_cpu)
    arguments.push_back("--mem-per-cpu=" + megabytes(bytes / static_cast<std::uint64_t>(cores)));
  if (settings.memory == MemoryForm::per_node) arguments.push_back("--mem=" + megabytes(bytes));
  if (resources.gpus > 0) {
    const std::string type = settings.gpu_type.empty() ? "" : settings.gpu_type + ":";
    const std::string all = type + std::to_string(resources.ranks * resources.gpus);
    if (settings.gpu_form == GpuForm::gres) arguments.push_back("--gres=gpu:" + all);
    if (settings.gpu_form == GpuForm::gpus) arguments.push_back("--gpus=" + all);
    if (settings.gpu_form == GpuForm::gpus_per_task)
      arguments.push_back("--gpus-per-task=" + type + std::to_string(resources.gpus));
  }
  for (const auto& option : slurm_site_options(settings)) arguments.push_back(option);
  if (!settings.licenses.empty()) arguments.push_back("--licenses=" + settings.licenses);
  std::string exclude = joined(batch.exclude, ",");
  for (const auto& option : settings.sbatch_options) {
    const bool excludes = option.starts_with("--exclude=");  // of two, sbatch takes the last
    arguments.push_back(excludes && !exclude.empty() ? option + "," + exclude : option);
    if (excludes) exclude.clear();
  }
  if (!exclude.empty()) arguments.push_back("--exclude=" + exclude);
  arguments.push_back(script.string());
  return arguments;
}

}  // namespace filo
