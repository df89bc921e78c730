#include "settings/cluster.hpp"

#include <algorithm>
#include <cctype>
#include <utility>

#include "base/error.hpp"
#include "base/text.hpp"
#include "settings/settings_schema.hpp"

namespace filo {
namespace {

// sbatch options that the executor sets itself; another value would break its bookkeeping.
const std::vector<std::string> own_options = {"--array",  "--hold",   "--parsable",   "--job-name", "--export",
                                              "--wait",   "--chdir",  "--test-only",  "--wrap",     "--requeue",
                                              "--signal", "--ntasks", "--no-requeue", "--time",     "--comment"};

const std::vector<std::string> gpu_forms = {"gres", "gpus", "gpus-per-task", "none"};
const std::vector<std::string> memory_forms = {"per-cpu", "per-node", "none"};
const std::vector<std::string> launchers = {"srun", "mpirun"};

template <typename Enum>
Enum value_of(const std::vector<std::string>& names, const std::string& name) {
  return static_cast<Enum>(std::find(names.begin(), names.end(), name) - names.begin());
}

bool is_variable_name(const std::string& name) {
  return !name.empty() && std::isdigit(static_cast<unsigned char>(name.front())) == 0 &&
         std::all_of(name.begin(), name.end(),
                     [](unsigned char c) { return c < 128 && (std::isalnum(c) != 0 || c == '_'); });
}

Schema checked(Schema schema, Schema::ValueCheck check) {
  schema.check = std::move(check);
  return schema;
}

Schema plain_name() {
  return checked(Schema::text(std::nullopt), [](const Json& text) -> std::optional<std::string> {
    if (is_plain_name(text.get<std::string>())) return std::nullopt;
    return "a name of letters, digits, '.', '_' and '-' (at most 100, not beginning with '.' or '-')";
  });
}

Schema absolute_path() {
  return checked(Schema::text(""), [](const Json& text) -> std::optional<std::string> {
    if (text == "" || text.get<std::string>().front() == '/') return std::nullopt;
    return "an absolute path: jobs start in other folders";
  });
}

Schema text_list(Schema::ValueCheck check) {
  return Schema::list(checked(Schema::text(std::nullopt), std::move(check)), Json::array());
}

std::optional<std::string> check_module(const Json& text) {
  const auto name = text.get<std::string>();
  if (!name.empty() && name.front() != '-') return std::nullopt;
  return "the name of a module, not beginning with '-'";
}

std::optional<std::string> check_sbatch_option(const Json& text) {
  const auto option = text.get<std::string>();
  if (option.size() < 3 || !option.starts_with("--"))
    return "an option of sbatch in its long form, as in --exclude=node7";
  const std::string name = option.substr(0, option.find('='));
  if (std::find(own_options.begin(), own_options.end(), name) != own_options.end())
    return "another option: " + name + " is set by filo";
  return std::nullopt;
}

// As the key of this name under `resources`; "" where there may be none.
Schema resource(const char* name, const std::string& fallback) {
  Schema schema = Schema::text(fallback);
  for (const auto& field : resource_schema().fields)
    if (field.name == name) schema.check = field.schema.check;
  return schema;
}

Schema limit(const char* resource_name) {
  Schema schema = resource(resource_name, "");
  schema.check = [check = schema.check](const Json& text) { return text == "" ? std::nullopt : check(text); };
  return schema;
}

Schema cluster_schema() {
  const ClusterSettings fallback;
  const auto any_text = [](const Json&) { return std::optional<std::string>(); };
  Schema environment = Schema::map(Schema::text(std::nullopt), Json::object());
  environment.check = [](const Json& variables) -> std::optional<std::string> {
    for (const auto& variable : variables.items())
      if (!is_variable_name(variable.key()))
        return "names of letters, digits and '_' (not " + Json(variable.key()).dump() + ")";
    return std::nullopt;
  };
  return Schema::record({
      {"name", plain_name()},
      {"partition", Schema::text("")},
      {"account", Schema::text("")},
      {"qos", Schema::text("")},
      {"constraint", Schema::text("")},
      {"licenses", Schema::text("")},
      {"gpus", Schema::record({{"form", Schema::choice("gres", gpu_forms)}, {"type", Schema::text("")}})},
      {"memory", Schema::choice("per-cpu", memory_forms)},
      {"one_node", Schema::boolean(fallback.one_node)},
      {"launcher", Schema::record({{"program", Schema::choice("srun", launchers)},
                                   {"mpi", Schema::text(fallback.mpi)},
                                   {"arguments", text_list(any_text)}})},
      {"modules", text_list(check_module)},
      {"prologue", text_list(any_text)},
      {"environment", environment},
      {"worker", absolute_path()},
      {"requeue", Schema::boolean(fallback.requeue)},
      {"signal_lead_s", Schema::integer(fallback.signal_lead_s, 1, 65535)},
      {"max_array_size", Schema::integer(fallback.max_array_size, 1, 4000000)},
      {"max_submit", Schema::integer(fallback.max_submit, 1, 10000000)},
      {"max_time", limit("time")},
      {"max_memory", limit("memory")},
      {"command_timeout_s", Schema::number(fallback.command_timeout_s, 0, 3600, true)},
      {"message_timeout_s", Schema::number(fallback.message_timeout_s, 0, 3600, true)},
      {"slurm_bin", absolute_path()},
      {"sbatch_options", text_list(check_sbatch_option)},
      {"watch", Schema::record({{"enabled", Schema::boolean(fallback.watch)},
                                {"time", resource("time", fallback.watch_time)},
                                {"interval_s", Schema::number(fallback.watch_interval_s, 0, 86400, true)},
                                {"sbatch_options", text_list(check_sbatch_option)}})},
  });
}

ClusterSettings settings_of(const Json& json) {
  const Json& gpus = json.at("gpus");
  const Json& launcher = json.at("launcher");
  const Json& watch = json.at("watch");
  return {.name = json.at("name"),
          .partition = json.at("partition"),
          .account = json.at("account"),
          .qos = json.at("qos"),
          .constraint = json.at("constraint"),
          .licenses = json.at("licenses"),
          .gpu_form = value_of<GpuForm>(gpu_forms, gpus.at("form")),
          .gpu_type = gpus.at("type"),
          .memory = value_of<MemoryForm>(memory_forms, json.at("memory")),
          .one_node = json.at("one_node"),
          .launcher = value_of<LauncherProgram>(launchers, launcher.at("program")),
          .mpi = launcher.at("mpi"),
          .launcher_arguments = launcher.at("arguments"),
          .modules = json.at("modules"),
          .prologue = json.at("prologue"),
          .environment = json.at("environment").get<std::map<std::string, std::string>>(),
          .worker = json.at("worker"),
          .requeue = json.at("requeue"),
          .signal_lead_s = json.at("signal_lead_s"),
          .max_array_size = json.at("max_array_size"),
          .max_submit = json.at("max_submit"),
          .max_time = json.at("max_time"),
          .max_memory = json.at("max_memory"),
          .command_timeout_s = json.at("command_timeout_s"),
          .message_timeout_s = json.at("message_timeout_s"),
          .slurm_bin = json.at("slurm_bin"),
          .sbatch_options = json.at("sbatch_options"),
          .watch = watch.at("enabled"),
          .watch_time = watch.at("time"),
          .watch_interval_s = watch.at("interval_s"),
          .watch_options = watch.at("sbatch_options")};
}

ClusterSettings checked_settings(const SourceValue& source, const std::string& file) {
  if (source.kind != SourceValue::Kind::map)
    throw UsageError("settings: " + file, "found " + describe(source) + ", expected a cluster: a map of keys");
  Problems problems(file);
  const Json resolved = resolve(cluster_schema(), source, "", problems);
  problems.throw_if_any();
  return settings_of(resolved);
}

}  // namespace

ClusterSettings load_cluster_settings(const std::string& yaml_path) {
  return checked_settings(read_yaml(yaml_path), yaml_path);
}

ClusterSettings cluster_settings_from_json(const Json& json, const std::string& where) {
  return checked_settings(source_value(json), where);
}

Json to_json(const ClusterSettings& settings) {
  return {{"name", settings.name},
          {"partition", settings.partition},
          {"account", settings.account},
          {"qos", settings.qos},
          {"constraint", settings.constraint},
          {"licenses", settings.licenses},
          {"gpus", {{"form", gpu_forms.at(static_cast<std::size_t>(settings.gpu_form))}, {"type", settings.gpu_type}}},
          {"memory", memory_forms.at(static_cast<std::size_t>(settings.memory))},
          {"one_node", settings.one_node},
          {"launcher",
           {{"program", launchers.at(static_cast<std::size_t>(settings.launcher))},
            {"mpi", settings.mpi},
            {"arguments", settings.launcher_arguments}}},
          {"modules", settings.modules},
          {"prologue", settings.prologue},
          {"environment", settings.environment},
          {"worker", settings.worker},
          {"requeue", settings.requeue},
          {"signal_lead_s", settings.signal_lead_s},
          {"max_array_size", settings.max_array_size},
          {"max_submit", settings.max_submit},
          {"max_time", settings.max_time},
          {"max_memory", settings.max_memory},
          {"command_timeout_s", settings.command_timeout_s},
          {"message_timeout_s", settings.message_timeout_s},
          {"slurm_bin", settings.slurm_bin},
          {"sbatch_options", settings.sbatch_options},
          {"watch",
           {{"enabled", settings.watch},
            {"time", settings.watch_time},
            {"interval_s", settings.watch_interval_s},
            {"sbatch_options", settings.watch_options}}}};
}

}  // namespace filo
