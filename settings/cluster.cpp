#include "settings/cluster.hpp"

#include <algorithm>
#include <cctype>

#include "base/installed.hpp"
#include "settings/enum_names.hpp"
#include "settings/resources.hpp"
#include "settings/yaml.hpp"

namespace filo {
namespace {

// sbatch options that the executor sets itself; another value would break its bookkeeping.
const std::vector<std::string> own_options = {"--array",  "--hold",   "--parsable",   "--job-name", "--export",
                                              "--wait",   "--chdir",  "--test-only",  "--wrap",     "--requeue",
                                              "--signal", "--ntasks", "--no-requeue", "--time",     "--comment"};

const EnumNames<GpuForm> gpu_forms = {{GpuForm::gres, "gres"},
                                      {GpuForm::gpus, "gpus"},
                                      {GpuForm::gpus_per_task, "gpus-per-task"},
                                      {GpuForm::none, "none"}};
const EnumNames<MemoryForm> memory_forms = {
    {MemoryForm::per_cpu, "per-cpu"}, {MemoryForm::per_node, "per-node"}, {MemoryForm::none, "none"}};
const EnumNames<LauncherProgram> launchers = {{LauncherProgram::srun, "srun"}, {LauncherProgram::mpirun, "mpirun"}};
const EnumNames<ContainerRuntime> runtimes = {
    {ContainerRuntime::none, "none"}, {ContainerRuntime::apptainer, "apptainer"}, {ContainerRuntime::pyxis, "pyxis"}};

bool is_variable_name(const std::string& name) {
  return !name.empty() && std::isdigit(static_cast<unsigned char>(name.front())) == 0 &&
         std::all_of(name.begin(), name.end(),
                     [](unsigned char c) { return c < 128 && (std::isalnum(c) != 0 || c == '_'); });
}

Schema absolute_path() {
  return Schema::text("").where([](const Json& text) { return text == "" || text.get<std::string>().front() == '/'; },
                                "an absolute path: jobs start in other folders");
}

Schema texts() { return Schema::list(Schema::text(std::nullopt), Json::array()); }

Schema module_names() {
  const auto is_name = [](const Json& text) { return text != "" && text.get<std::string>().front() != '-'; };
  return Schema::list(Schema::text(std::nullopt).where(is_name, "the name of a module, not beginning with '-'"),
                      Json::array());
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

Schema sbatch_options() {
  return Schema::list(Schema::text(std::nullopt).checked_by(check_sbatch_option), Json::array());
}

// A limit as `resources` write it, or "".
Schema or_empty(Schema schema) {
  schema.check = [check = schema.check](const Json& text) { return text == "" ? std::nullopt : check(text); };
  return schema;
}

std::optional<std::string> check_environment(const Json& variables) {
  for (const auto& variable : variables.items())
    if (!is_variable_name(variable.key()))
      return "names of letters, digits and '_' (not " + in_quotes(variable.key()) + ")";
  return std::nullopt;
}

// Both runtimes separate mounts by ',' and their parts by ':'.
bool is_mount(const Json& mount) {
  const auto text = mount.get<std::string>();
  return text.starts_with('/') && text.find(',') == std::string::npos && std::count(text.begin(), text.end(), ':') <= 2;
}

Schema container_schema() {
  Schema schema = Schema::record(
      {{"runtime", runtimes.schema(ContainerRuntime::none)},
       {"image", Schema::text("")},
       {"mounts", Schema::list(Schema::text(std::nullopt).where(is_mount, "/OUTSIDE or /OUTSIDE:/INSIDE[:FLAGS]"),
                               Json::array())},
       {"options", texts()}});
  schema.record_check = [](const Json& container, const Schema::Complain& complain) {
    const bool none = container.at("runtime") == runtimes.name(ContainerRuntime::none);
    if (none != (container.at("image") == ""))
      complain(none ? "runtime" : "image", none ? "found none, expected what runs the image: apptainer or pyxis"
                                                : "found none, expected the image that the runtime is to run");
  };
  return schema;
}

Schema bad_nodes_schema() {
  const BadNodeSettings fallback;
  return Schema::record({{"health_check", Schema::boolean(fallback.health_check)},
                         {"limit", Schema::integer(fallback.limit, 0, 10000)},
                         {"expiry", time_schema(fallback.expiry)},
                         {"within_s", Schema::number(fallback.within_s, 0, 3600)}});
}

void check_together(const Json& cluster, const Schema::Complain& complain) {
  if (cluster.at("container").at("runtime") == runtimes.name(ContainerRuntime::pyxis) &&
      cluster.at("launcher").at("program") != launchers.name(LauncherProgram::srun))
    complain("launcher.program", "found mpirun, expected srun: Pyxis starts containers by srun alone");
}

Schema cluster_schema() {
  const ClusterSettings fallback;
  Schema schema = Schema::record({
      {"name", Schema::plain_name()},
      {"partition", Schema::text("")},
      {"account", Schema::text("")},
      {"qos", Schema::text("")},
      {"constraint", Schema::text("")},
      {"licenses", Schema::text("")},
      {"gpus", Schema::record({{"form", gpu_forms.schema(fallback.gpu_form)}, {"type", Schema::text("")}})},
      {"memory", memory_forms.schema(fallback.memory)},
      {"one_node", Schema::boolean(fallback.one_node)},
      {"launcher", Schema::record({{"program", launchers.schema(fallback.launcher)},
                                   {"mpi", Schema::text(fallback.mpi)},
                                   {"arguments", texts()}})},
      {"modules", module_names()},
      {"prologue", texts()},
      {"environment", Schema::map(Schema::text(std::nullopt), Json::object()).checked_by(check_environment)},
      {"worker", absolute_path()},
      {"container", container_schema()},
      {"bad_nodes", bad_nodes_schema()},
      {"requeue", Schema::boolean(fallback.requeue)},
      {"signal_lead_s", Schema::integer(fallback.signal_lead_s, 1, 65535)},
      {"max_array_size", Schema::integer(fallback.max_array_size, 1, 4000000)},
      {"max_submit", Schema::integer(fallback.max_submit, 1, 10000000)},
      {"max_time", or_empty(time_schema(fallback.max_time))},
      {"max_memory", or_empty(memory_schema(fallback.max_memory))},
      {"command_timeout_s", Schema::number(fallback.command_timeout_s, 0, 3600, true)},
      {"message_timeout_s", Schema::number(fallback.message_timeout_s, 0, 3600, true)},
      {"result_grace_s", Schema::number(fallback.result_grace_s, 0, 3600)},
      {"slurm_bin", absolute_path()},
      {"sbatch_options", sbatch_options()},
      {"watch", Schema::record({{"enabled", Schema::boolean(fallback.watch)},
                                {"time", time_schema(fallback.watch_time)},
                                {"interval_s", Schema::number(fallback.watch_interval_s, 0, 86400, true)},
                                {"sbatch_options", sbatch_options()}})},
  });
  schema.record_check = check_together;
  return schema;
}

ClusterSettings settings_of(const Json& json) {
  const Json& gpus = json.at("gpus");
  const Json& launcher = json.at("launcher");
  const Json& watch = json.at("watch");
  const Json& container = json.at("container");
  const Json& bad_nodes = json.at("bad_nodes");
  return {.name = json.at("name"),
          .partition = json.at("partition"),
          .account = json.at("account"),
          .qos = json.at("qos"),
          .constraint = json.at("constraint"),
          .licenses = json.at("licenses"),
          .gpu_form = gpu_forms.value(gpus.at("form")),
          .gpu_type = gpus.at("type"),
          .memory = memory_forms.value(json.at("memory")),
          .one_node = json.at("one_node"),
          .launcher = launchers.value(launcher.at("program")),
          .mpi = launcher.at("mpi"),
          .launcher_arguments = launcher.at("arguments"),
          .modules = json.at("modules"),
          .prologue = json.at("prologue"),
          .environment = json.at("environment").get<std::map<std::string, std::string>>(),
          .worker = json.at("worker"),
          .container = {.runtime = runtimes.value(container.at("runtime")),
                        .image = container.at("image"),
                        .mounts = container.at("mounts"),
                        .options = container.at("options")},
          .bad_nodes = {.health_check = bad_nodes.at("health_check"),
                        .limit = bad_nodes.at("limit"),
                        .expiry = bad_nodes.at("expiry"),
                        .within_s = bad_nodes.at("within_s")},
          .requeue = json.at("requeue"),
          .signal_lead_s = json.at("signal_lead_s"),
          .max_array_size = json.at("max_array_size"),
          .max_submit = json.at("max_submit"),
          .max_time = json.at("max_time"),
          .max_memory = json.at("max_memory"),
          .command_timeout_s = json.at("command_timeout_s"),
          .message_timeout_s = json.at("message_timeout_s"),
          .result_grace_s = json.at("result_grace_s"),
          .slurm_bin = json.at("slurm_bin"),
          .sbatch_options = json.at("sbatch_options"),
          .watch = watch.at("enabled"),
          .watch_time = watch.at("time"),
          .watch_interval_s = watch.at("interval_s"),
          .watch_options = watch.at("sbatch_options")};
}

ClusterSettings checked_settings(const SourceValue& source, const std::string& file) {
  require_map(source, file, "a cluster");
  return settings_of(resolve(cluster_schema(), source, "", file));
}

}  // namespace

ClusterSettings load_cluster_settings(const std::string& yaml_path) {
  const std::string path = shipped_file(yaml_path).string();
  return checked_settings(read_yaml(path), path);
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
          {"gpus", {{"form", gpu_forms.name(settings.gpu_form)}, {"type", settings.gpu_type}}},
          {"memory", memory_forms.name(settings.memory)},
          {"one_node", settings.one_node},
          {"launcher",
           {{"program", launchers.name(settings.launcher)},
            {"mpi", settings.mpi},
            {"arguments", settings.launcher_arguments}}},
          {"modules", settings.modules},
          {"prologue", settings.prologue},
          {"environment", settings.environment},
          {"worker", settings.worker},
          {"container",
           {{"runtime", runtimes.name(settings.container.runtime)},
            {"image", settings.container.image},
            {"mounts", settings.container.mounts},
            {"options", settings.container.options}}},
          {"bad_nodes",
           {{"health_check", settings.bad_nodes.health_check},
            {"limit", settings.bad_nodes.limit},
            {"expiry", settings.bad_nodes.expiry},
            {"within_s", settings.bad_nodes.within_s}}},
          {"requeue", settings.requeue},
          {"signal_lead_s", settings.signal_lead_s},
          {"max_array_size", settings.max_array_size},
          {"max_submit", settings.max_submit},
          {"max_time", settings.max_time},
          {"max_memory", settings.max_memory},
          {"command_timeout_s", settings.command_timeout_s},
          {"message_timeout_s", settings.message_timeout_s},
          {"result_grace_s", settings.result_grace_s},
          {"slurm_bin", settings.slurm_bin},
          {"sbatch_options", settings.sbatch_options},
          {"watch",
           {{"enabled", settings.watch},
            {"time", settings.watch_time},
            {"interval_s", settings.watch_interval_s},
            {"sbatch_options", settings.watch_options}}}};
}

}  // namespace filo
