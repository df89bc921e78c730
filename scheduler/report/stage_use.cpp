#include "scheduler/report/stage_use.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>

#include "base/error.hpp"
#include "base/progress.hpp"
#include "base/text.hpp"
#include "scheduler/executors/slurm_commands.hpp"
#include "scheduler/report/estimate.hpp"
#include "scheduler/report/formats.hpp"
#include "workspace/events.hpp"
#include "workspace/spec.hpp"

namespace filo {
namespace {

constexpr std::uint64_t end_of_events = 64 << 10;  // bytes in which the `used` event is looked for
constexpr double more_memory = 1.25, more_time = 2;
constexpr double memory_step = 256 << 20, least_memory = 512 << 20;
constexpr double time_step_s = 600;

std::optional<double> number_in(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || !found->is_number() ? std::nullopt : std::optional(found->get<double>());
}

StageUse use_of(const Workspace& workspace, const StageResult& result, const ResourceSettings& asked) {
  StageUse use{.key = result.stage,
               .kind = result.kind,
               .asked = asked,
               .seconds = result.seconds,
               .cpu_s = {},
               .memory_bytes = {},
               .gpu_memory_bytes = {},
               .gpu_use = {},
               .energy_j = {}};
  EventReader events(workspace.events_file(result.stage, result.attempt));
  events.start_near_end(end_of_events);
  for (const auto& event : events.read()) {
    if (event.at("event") != "used") continue;
    use.cpu_s = number_in(event, "cpu_s");
    use.memory_bytes = number_in(event, "memory_bytes");
    use.gpu_memory_bytes = number_in(event, "gpu_memory_bytes");
    use.gpu_use = number_in(event, "gpu_use");
  }
  return use;
}

// The job that a Slurm attempt ran as, by what its script left; 0: none is known.
long job_id(const Workspace& workspace, const std::string& key) {
  const int attempt = workspace.newest_attempt(key);
  const auto claim = workspace.claim(key, attempt);
  if (!claim || !text_of(*claim, "executor").starts_with("slurm ")) return 0;
  std::ifstream file(workspace.exit_file(key, attempt));
  long id = 0;
  file >> id;
  return id;
}

void take_larger(std::optional<double>& mine, double other) {
  if (other >= 0) mine = std::max(mine.value_or(other), other);
}

// Where Slurm's commands are, as far as the experiment still says.
ClusterSettings cluster_of(const Workspace& workspace, const Plan& plan) {
  const auto active = workspace.active(plan.name);
  if (!active || active->cluster.empty()) return {};
  try {
    return load_cluster_settings(active->cluster);
  } catch (const Error&) {
    return {};
  }
}

std::string gigabytes(const std::optional<double>& bytes) {
  return bytes ? formatted(*bytes / (1 << 30), "%.2f GiB") : "-";
}

std::string in_hours(double seconds) { return time_text(std::lround(seconds)); }

struct Most {
  std::size_t stages = 0;
  double seconds = 0, stage_seconds = 0;
  double cpu_s = 0, cpu_seconds = 0;  // of those that told
  double gpu_use = 0;
  std::size_t gpus_told = 0;
  std::optional<double> memory, gpu_memory, energy;
};

Most most_of(const std::vector<const StageUse*>& uses) {
  Most most;
  for (const auto* use : uses) {
    ++most.stages;
    most.seconds = std::max(most.seconds, use->seconds);
    most.stage_seconds += use->seconds;
    if (use->cpu_s) {
      most.cpu_s += *use->cpu_s;
      most.cpu_seconds += use->seconds;
    }
    if (use->memory_bytes) take_larger(most.memory, *use->memory_bytes);
    if (use->gpu_memory_bytes) take_larger(most.gpu_memory, *use->gpu_memory_bytes);
    if (use->energy_j) most.energy = most.energy.value_or(0) + *use->energy_j;
    if (!use->gpu_use) continue;
    most.gpu_use += *use->gpu_use;
    ++most.gpus_told;
  }
  return most;
}

std::string proposal_text(const ResourceSettings& asked, const ResourceSettings& proposed) {
  std::string text;
  if (proposed.memory != asked.memory) text += proposed.memory + " instead of " + asked.memory;
  if (proposed.time != asked.time) text += (text.empty() ? "" : ", ") + proposed.time + " instead of " + asked.time;
  return text;
}

Json to_json(const StageUse& use) {
  const auto value = [](const std::optional<double>& number) { return number ? Json(*number) : Json(); };
  return {{"key", use.key},
          {"kind", to_string(use.kind)},
          {"asked", to_json(use.asked)},
          {"seconds", use.seconds},
          {"cpu_s", value(use.cpu_s)},
          {"memory_bytes", value(use.memory_bytes)},
          {"gpu_memory_bytes", value(use.gpu_memory_bytes)},
          {"gpu_use", value(use.gpu_use)},
          {"energy_j", value(use.energy_j)}};
}

// Stages are alike where memory and speed should be: whatever their seed, their epochs and what they were made from.
std::string likeness(Json spec, const ResourceSettings& shape) {
  Json batch;
  if (const auto train = spec.find(spec_member::train); train != spec.end())
    batch = {train->value("batch_size", Json()), train->value("precision", Json())};
  for (const char* member :
       {spec_member::train, spec_member::seed, spec_member::inputs, spec_member::checkpoint, spec_member::descriptions})
    spec.erase(member);
  return Json{std::move(spec), batch, shape.ranks, shape.threads, shape.gpus > 0}.dump();
}

struct Learned {
  double memory_bytes = 0;
  double seconds = 0;           // the longest
  double seconds_per_flop = 0;  // the slowest
};

// Of the workspace's finished stages, by likeness.
std::map<std::string, Learned> learned_from(const Workspace& workspace, StageCosts& costs) {
  std::map<std::string, Learned> learned;
  const auto keys = workspace.stage_keys();
  Progress progress("looking at what finished stages used", keys.size());
  std::size_t seen = 0;
  for (const auto& key : keys) {
    progress.at(seen++);
    std::error_code error;
    if (!std::filesystem::exists(workspace.result_file(key), error)) continue;
    try {
      const auto result = stage_result_from_json(read_json(workspace.result_file(key)));
      if (!result || result->stage != key) continue;
      const StageUse use = use_of(workspace, *result, {});
      if (!use.memory_bytes) continue;  // of a version that did not tell
      const Json spec = read_json(workspace.spec_file(key));
      const double flop = costs.of(result->kind, spec).flop;
      Learned& known = learned[likeness(
          spec, {.ranks = result->world_size, .threads = result->threads, .gpus = result->device == "cpu" ? 0 : 1})];
      known.memory_bytes = std::max(known.memory_bytes, *use.memory_bytes);
      known.seconds = std::max(known.seconds, use.seconds);
      if (flop > 0) known.seconds_per_flop = std::max(known.seconds_per_flop, use.seconds / flop);
    } catch (const std::exception&) {  // a stage of another version, or of a data set that is gone, teaches nothing
    }
  }
  return learned;
}

}  // namespace

std::vector<StageUse> stage_uses(const Workspace& workspace, const Plan& plan) {
  std::vector<StageUse> uses;
  for (const auto& stage : plan.stages)
    if (const auto result = workspace.result(stage.key, stage.kind))
      uses.push_back(use_of(workspace, *result, stage.resources));
  return uses;
}

void add_accounted_use(const Workspace& workspace, const Plan& plan, std::vector<StageUse>& uses) {
  std::map<long, StageUse*> by_job;
  for (auto& use : uses)
    if (const long id = job_id(workspace, use.key); id > 0) by_job[id] = &use;
  if (by_job.empty()) return;
  std::vector<long> ids;
  for (const auto& [id, use] : by_job) ids.push_back(id);
  SlurmCommands commands(cluster_of(workspace, plan));
  for (const auto& [id, told] : commands.used(ids)) {
    const auto found = by_job.find(id);
    if (found == by_job.end()) continue;
    StageUse& use = *found->second;
    take_larger(use.cpu_s, told.cpu_s);
    take_larger(use.memory_bytes, told.memory_bytes);
    take_larger(use.gpu_memory_bytes, told.gpu_memory_bytes);
    if (!use.gpu_use) take_larger(use.gpu_use, told.gpu_use);
    take_larger(use.energy_j, told.energy_j);
  }
}

ResourceSettings proposed_resources(const ResourceSettings& asked, double most_memory_bytes, double most_seconds) {
  ResourceSettings proposed = asked;
  const auto up = [](double value, double step) { return std::ceil(value / step) * step; };
  if (most_memory_bytes > 0)
    proposed.memory = memory_text(
        static_cast<std::uint64_t>(std::max(least_memory, up(more_memory * most_memory_bytes, memory_step))));
  if (most_seconds > 0) proposed.time = time_text(std::lround(up(more_time * most_seconds, time_step_s)));
  return proposed;
}

TextTable resource_table(const std::vector<StageUse>& uses) {
  TextTable table{.title = "resources: used of what was asked for",
                  .columns = {"stages", "number", "memory asked", "most used", "cores asked", "used", "time asked",
                              "longest", "GPU memory", "GPU use", "energy", "ask for"},
                  .rows = {}};
  std::map<std::pair<StageKind, std::string>, std::vector<const StageUse*>> groups;
  for (const auto& use : uses) groups[{use.kind, to_json(use.asked).dump()}].push_back(&use);
  for (const auto& [group, members] : groups) {
    const ResourceSettings& asked = members.front()->asked;
    const Most most = most_of(members);
    const std::string proposal = proposal_text(asked, proposed_resources(asked, most.memory.value_or(0), most.seconds));
    table.rows.push_back(
        {to_string(group.first), std::to_string(most.stages), asked.memory, gigabytes(most.memory),
         std::to_string(asked.ranks * asked.threads),
         most.cpu_seconds > 0 ? formatted(most.cpu_s / most.cpu_seconds, "%.1f") : "-", asked.time,
         in_hours(most.seconds), asked.gpus > 0 ? gigabytes(most.gpu_memory) : "-",
         most.gpus_told > 0 ? formatted(100 * most.gpu_use / static_cast<double>(most.gpus_told), "%.0f %%") : "-",
         most.energy ? formatted(*most.energy / 3.6e6, "%.3g kWh") : "-", proposal.empty() ? "the same" : proposal});
  }
  return table;
}

std::string resource_report(const Workspace& workspace, const Plan& plan, ReportFormat format) {
  auto uses = stage_uses(workspace, plan);
  add_accounted_use(workspace, plan, uses);
  const TextTable table = resource_table(uses);
  switch (format) {
    case ReportFormat::json: {
      Json json = {{"experiment", plan.name}, {"stages", Json::array()}};
      for (const auto& use : uses) json["stages"].push_back(to_json(use));
      return json.dump(2) + "\n";
    }
    case ReportFormat::csv:
      return to_csv(table);
    case ReportFormat::latex:
      return to_latex(table);
    case ReportFormat::html:
      return to_html(table);
    case ReportFormat::terminal:
      return to_terminal(table);
    case ReportFormat::markdown:
      break;
  }
  return to_markdown(table);
}

std::vector<std::string> learn_resources(const Workspace& workspace, Plan& plan) {
  StageCosts costs(workspace);
  const auto learned = learned_from(workspace, costs);
  std::map<std::string, int> changes;
  for (auto& stage : plan.stages) {
    if (workspace.result(stage.key, stage.kind)) continue;
    const Json spec = stage.spec.json();
    const auto known = learned.find(likeness(spec, stage.resources));
    if (known == learned.end()) continue;
    const double seconds = std::max(costs.of(stage.kind, spec).flop * known->second.seconds_per_flop,
                                    known->second.seconds_per_flop > 0 ? 0 : known->second.seconds);
    const ResourceSettings proposed = proposed_resources(stage.resources, known->second.memory_bytes, seconds);
    const std::string change = proposal_text(stage.resources, proposed);
    if (change.empty()) continue;
    ++changes[to_string(stage.kind) + ": " + change];
    stage.resources = proposed;
  }
  std::vector<std::string> lines;
  for (const auto& [change, stages] : changes)
    lines.push_back(change + " (" + std::to_string(stages) + (stages == 1 ? " stage)" : " stages)"));
  return lines;
}

}  // namespace filo
