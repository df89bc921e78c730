#include "scheduler/report/checkpoint_rows.hpp"

#include <algorithm>
#include <cstdlib>

#include "base/error.hpp"
#include "base/text.hpp"
#include "scheduler/plan/plan_file.hpp"
#include "scheduler/report/formats.hpp"
#include "settings/metrics.hpp"
#include "workspace/artifacts.hpp"
#include "workspace/manifest.hpp"
#include "workspace/spec.hpp"

namespace filo {
namespace {

// What plans say of stages and of what was collected.
struct Named {
  std::map<std::string, std::set<std::string>> by_stage;   // trainings and evaluations
  std::map<std::string, std::set<std::string>> by_digest;  // artifacts
};

// The artifact that a path leads into, "" where it leads elsewhere.
std::string digest_in(const Workspace& workspace, const std::string& path) {
  std::error_code error;
  const auto inside = std::filesystem::relative(path, workspace.artifacts_folder(), error);
  const std::string first = error || inside.empty() ? "" : inside.begin()->string();
  return is_artifact_digest(first) ? first : "";
}

Named named_by_plans(const Workspace& workspace) {
  Named named;
  for (const std::string& name : experiment_names(workspace)) {
    const Plan plan = load_plan(workspace, name);
    const bool takes_some = plan.experiment.dump().find("artifacts/") != std::string::npos;
    for (const PlannedStage& stage : plan.stages) {
      if (stage.kind != StageKind::train && stage.kind != StageKind::evaluate) continue;
      named.by_stage[stage.key].insert(name);
      if (stage.kind != StageKind::train) continue;
      if (const auto digest = collected_digest(workspace, stage.key)) named.by_digest[*digest].insert(name);
      if (!takes_some) continue;
      const auto spec = read_json_if_sound(workspace.spec_file(stage.key));
      if (!spec || !spec->is_object()) continue;
      const std::string taken =
          digest_in(workspace, text_of(spec->value(spec_member::checkpoint, Json::object()), "path"));
      if (!taken.empty()) named.by_digest[taken].insert(name);
    }
  }
  return named;
}

Json names_of(const Json& datasets) {
  Json names = Json::array();
  for (const auto& dataset : datasets) names.push_back(text_of(dataset, "name"));
  return names;
}

void add_record(const Json& record, std::map<std::string, Json>& members) {
  for (const char* name : {"seed", "host", "device"})
    if (record.contains(name)) members[name] = record.at(name);
  if (record.contains("versions")) members["version"] = text_of(record.at("versions"), "filo");
  if (record.contains("datasets")) members["train_dataset"] = names_of(record.at("datasets"));
  if (record.contains("dataset")) members["test_dataset"] = text_of(record.at("dataset"), "name");
}

void add_members(const Named& named, const std::map<std::string, std::string>& tags, CheckpointRow& row) {
  std::set<std::string> experiments;
  const auto add_experiments = [&](const Json& record) {
    if (const std::string own = text_of(record, "experiment"); !own.empty()) experiments.insert(own);
    if (const auto found = named.by_stage.find(text_of(record, "stage")); found != named.by_stage.end())
      experiments.insert(found->second.begin(), found->second.end());
  };
  if (row.evaluation) {
    const Json settings = row.evaluation->value("settings", Json::object());
    flatten(settings.value("evaluate", Json::object()), "evaluate", row.members);
    const Json evaluated = settings.value(spec_member::model, Json::object());
    for (const auto& [member, pointer] :
         {std::pair("evaluate.filter", "/prompts/filter"), std::pair("evaluate.positions", "/prompts/positions"),
          std::pair("evaluate.boxes", "/boxes/source")})
      row.members[member] = evaluated.value(Json::json_pointer(pointer), Json());
    const Json metrics = row.evaluation->value("metrics", Json::object());
    for (const auto& [name, value] : metrics.items())
      if (value.is_number()) row.members[name] = value;
    add_record(*row.evaluation, row.members);
    row.members["train_dataset"] = names_of(row.evaluation->value("train_datasets", Json::array()));
    add_experiments(*row.evaluation);
  }
  if (row.training) {
    flatten(row.training->value("settings", Json::object()), "", row.members);
    const Json tested = row.members.contains("seed") ? row.members["seed"] : Json();
    add_record(*row.training, row.members);
    if (!row.training->contains("seed") && !tested.is_null()) row.members["seed"] = tested;
    if (!row.evaluation) add_experiments(*row.training);
  }
  if (const auto found = named.by_digest.find(row.digest); !row.evaluation && found != named.by_digest.end())
    experiments.insert(found->second.begin(), found->second.end());
  row.members["digest"] = row.digest;
  row.members["experiment"] = experiments;
  Json names = Json::array();
  for (const auto& [name, digest] : tags)
    if (digest == row.digest) names.push_back(name);
  row.members["tag"] = std::move(names);
}

std::string text_of_value(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

bool compares(const Json& value, const std::string& comparison, const std::string& wanted) {
  char* end = nullptr;
  const double number = std::strtod(wanted.c_str(), &end);
  const bool is_number = value.is_number() && !wanted.empty() && *end == '\0';
  if (comparison == "=") return is_number ? value.get<double>() == number : text_of_value(value) == wanted;
  if (comparison == "!=") return !compares(value, "=", wanted);
  if (!is_number) return false;
  const double own = value.get<double>();
  if (comparison == ">") return own > number;
  if (comparison == ">=") return own >= number;
  if (comparison == "<") return own < number;
  return own <= number;
}

std::string shown(const CheckpointRow& row, const std::string& member) {
  const auto found = row.members.find(member);
  if (found == row.members.end()) return "-";
  if (!found->second.is_array()) return text_of_value(found->second);
  std::string text;
  for (const auto& item : found->second) text += (text.empty() ? "" : ", ") + text_of_value(item);
  return text.empty() ? "-" : text;
}

}  // namespace

void flatten(const Json& value, const std::string& key, std::map<std::string, Json>& members) {
  if (!value.is_object()) {
    members[key] = value;
    return;
  }
  for (const auto& [name, member] : value.items()) flatten(member, key.empty() ? name : key + "." + name, members);
}

std::map<std::string, std::set<std::string>> checkpoints_of_experiments(const Workspace& workspace) {
  return named_by_plans(workspace).by_digest;
}

std::vector<CheckpointRow> checkpoint_rows(const Workspace& workspace) {
  const Named named = named_by_plans(workspace);
  const auto tags = artifact_tags(workspace);
  std::vector<CheckpointRow> rows;
  for (const std::string& digest : artifact_digests(workspace)) {
    CheckpointManifest manifest = read_checkpoint_manifest(workspace, digest);
    std::ranges::stable_sort(manifest.evaluations, {}, [](const Json& record) {
      return text_of(record.value("dataset", Json::object()), "name");
    });
    CheckpointRow row{.digest = digest};
    if (!manifest.trainings.empty()) row.training = manifest.trainings[0];
    const std::size_t first = rows.size();
    for (Json& evaluation : manifest.evaluations) {
      rows.push_back(row);
      rows.back().evaluation = std::move(evaluation);
    }
    if (manifest.evaluations.empty()) rows.push_back(row);
    for (std::size_t i = first; i < rows.size(); ++i) add_members(named, tags, rows[i]);
  }
  return rows;
}

RowCondition parse_condition(const std::string& text) {
  const auto begin = text.find_first_of("=!<>");
  const auto end = begin == std::string::npos ? begin : text.find_first_not_of("=!<>", begin);
  RowCondition condition{.member = text.substr(0, begin), .comparison = "", .value = ""};
  if (begin != std::string::npos) condition.comparison = text.substr(begin, end - begin);
  if (end != std::string::npos) condition.value = text.substr(end);
  static const std::vector<std::string> known = {"=", "!=", ">", ">=", "<", "<="};
  if (condition.member.empty() || std::ranges::find(known, condition.comparison) == known.end())
    throw UsageError("checkpoints: --where",
                     "found \"" + text + "\", expected a member, one of = != > >= < <=, and a value: image_auroc>0.9");
  return condition;
}

bool meets(const CheckpointRow& row, const RowCondition& condition) {
  const auto found = row.members.find(condition.member);
  if (found == row.members.end() || found->second.is_null()) return false;
  if (!found->second.is_array()) return compares(found->second, condition.comparison, condition.value);
  const bool any = std::ranges::any_of(found->second, [&](const Json& item) {
    return compares(item, condition.comparison == "!=" ? "=" : condition.comparison, condition.value);
  });
  return any != (condition.comparison == "!=");
}

std::vector<CheckpointRow> where(std::vector<CheckpointRow> rows, const std::vector<RowCondition>& conditions) {
  std::set<std::string> members;
  for (const CheckpointRow& row : rows)
    for (const auto& member : row.members) members.insert(member.first);
  for (const RowCondition& condition : conditions)
    if (!rows.empty() && !members.contains(condition.member))
      throw UsageError("checkpoints: --where",
                       "found \"" + condition.member + "\", which no checkpoint has, expected a member: digest, tag, " +
                           "experiment, train_dataset, test_dataset, seed, host, version, a metric or a setting by " +
                           "its dotted key" + did_you_mean(condition.member, members));
  std::erase_if(rows, [&](const CheckpointRow& row) {
    return !std::ranges::all_of(conditions, [&](const RowCondition& condition) { return meets(row, condition); });
  });
  return rows;
}

void sort_by_metric(std::vector<CheckpointRow>& rows, const std::string& metric) {
  const auto value = [&](const CheckpointRow& row) -> std::optional<double> {
    const auto found = row.members.find(metric);
    return found == row.members.end() || !found->second.is_number() ? std::nullopt
                                                                    : std::optional(found->second.get<double>());
  };
  if (!is_metric(metric) && !metric.starts_with("aupro_at_"))
    throw UsageError("checkpoints: " + metric,
                     "is no metric, expected one of those in docs/reference/metrics.md: image_auroc, pixel_auroc, ..." +
                         did_you_mean(metric, metric_names()));
  std::ranges::stable_sort(rows, [&](const CheckpointRow& a, const CheckpointRow& b) {
    const auto own = value(a), other = value(b);
    return own && (!other || *own > *other);
  });
}

TextTable checkpoint_table(const std::vector<CheckpointRow>& rows, const std::string& metric) {
  TextTable table{.title = "", .columns = {"checkpoint", "experiment", "trained on", "tested on", "seed"}, .rows = {}};
  std::vector<std::string> metrics = main_metrics();
  if (!metric.empty() && std::ranges::find(metrics, metric) == metrics.end()) metrics.push_back(metric);
  for (const auto& name : metrics) table.columns.push_back(metric_title(name));
  table.columns.push_back("tags");
  for (const CheckpointRow& row : rows) {
    std::vector<std::string> cells = {row.digest.substr(0, digits_shown), shown(row, "experiment"),
                                      shown(row, "train_dataset"), shown(row, "test_dataset"), shown(row, "seed")};
    const Json measured = row.evaluation ? row.evaluation->value("metrics", Json()) : Json();
    for (const auto& name : metrics) cells.push_back(to_text(cell_of(measured, name)));
    cells.push_back(shown(row, "tag"));
    table.rows.push_back(std::move(cells));
  }
  return table;
}

Json to_json(const CheckpointRow& row) {
  return {{"digest", row.digest},
          {"tags", row.members.at("tag")},
          {"experiments", row.members.at("experiment")},
          {"training", row.training ? *row.training : Json()},
          {"evaluation", row.evaluation ? *row.evaluation : Json()}};
}

}  // namespace filo
