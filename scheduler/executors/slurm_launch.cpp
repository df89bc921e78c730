#include "scheduler/executors/slurm_launch.hpp"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "base/error.hpp"
#include "scheduler/executors/machine.hpp"

namespace filo {
namespace {

std::string quoted_words(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += " " + shell_quoted(word);
  return text;
}

std::string launcher(const ClusterSettings& settings, const ResourceSettings& resources) {
  const std::string ranks = std::to_string(resources.ranks), threads = std::to_string(resources.threads);
  std::string program = "mpirun";
  std::vector<std::string> words = {"-np", ranks, "--bind-to", "none"};
  if (settings.launcher == LauncherProgram::srun) {
    program = settings.slurm_bin.empty() ? "srun" : shell_quoted(settings.slurm_bin + "/srun");
    words = {"--ntasks=" + ranks, "--cpus-per-task=" + threads, "--kill-on-bad-exit=1"};
    if (!settings.mpi.empty()) words.push_back("--mpi=" + settings.mpi);
  }
  words.insert(words.end(), settings.launcher_arguments.begin(), settings.launcher_arguments.end());
  return program + quoted_words(words);
}

std::string apptainer(const ContainerSettings& container, const ResourceSettings& resources,
                      const std::vector<std::string>& folders) {
  std::string text = R"( apptainer exec --pwd "$PWD")";
  for (const auto& folder : folders) text += " ${" + folder + ":+\"--bind=$" + folder + "\"}";
  for (const auto& mount : container.mounts) text += " " + shell_quoted("--bind=" + mount);
  if (resources.gpus > 0) text += " --nv";
  return text + quoted_words(container.options) + " " + shell_quoted(container.image);
}

// enroot's mounts name both sides.
std::string pyxis(const ContainerSettings& container, const std::vector<std::string>& folders) {
  std::string mounts;
  for (const auto& folder : folders)
    mounts += "\"${" + folder + ":+" + (mounts.empty() ? "" : ",") + "$" + folder + ":$" + folder + "}\"";
  for (const auto& mount : container.mounts)
    mounts += shell_quoted("," + (mount.find(':') == std::string::npos ? mount + ":" + mount : mount));
  return " " + shell_quoted("--container-image=" + container.image) + " --container-mounts=" + mounts +
         R"( --container-workdir="$PWD")" + quoted_words(container.options);
}

}  // namespace

std::string shell_quoted(const std::string& text) {
  const auto plain = [](unsigned char c) {
    return c < 128 && (std::isalnum(c) != 0 ||
                       std::string_view("_-./=:@%+,").find(static_cast<char>(c)) != std::string_view::npos);
  };
  if (!text.empty() && std::all_of(text.begin(), text.end(), plain)) return text;
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'')
      quoted += "'\\''";
    else
      quoted += c;
  }
  return quoted + "'";
}

std::string slurm_launch_command(const ClusterSettings& settings, const ResourceSettings& resources,
                                 const std::vector<std::string>& folders) {
  std::string text = launcher(settings, resources);
  if (settings.container.runtime == ContainerRuntime::apptainer)
    text += apptainer(settings.container, resources, folders);
  if (settings.container.runtime == ContainerRuntime::pyxis) text += pyxis(settings.container, folders);
  return text + " \"$worker\"";
}

std::string slurm_site_preamble(const ClusterSettings& settings) {
  std::string text = "[ \"$(id -u)\" != 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1\n";
  for (const auto& [name, value] : settings.environment) text += "export " + name + "=" + shell_quoted(value) + "\n";
  // Two jobs of Open MPI 4 that start at once on a node both make this folder, and the second one fails.
  text += "mkdir -m 700 \"${TMPDIR:-/tmp}/ompi.${HOSTNAME%%.*}.$(id -u)\" 2>/dev/null\n";
  if (!settings.modules.empty()) text += "command -v module >/dev/null || [ ! -r /etc/profile ] || . /etc/profile\n";
  for (const auto& module : settings.modules)
    text += "module load " + shell_quoted(module) + " || { echo filo: module load failed: " + shell_quoted(module) +
            "; exit 1; }\n";
  for (const auto& line : settings.prologue) text += line + "\n";
  return text;
}

std::string worker_on_nodes(const ClusterSettings& settings) {
  if (!settings.worker.empty()) return settings.worker;
  return settings.container.runtime == ContainerRuntime::none ? find_worker().string() : "filo-worker";
}

void expect_mountable(const ClusterSettings& settings, const std::filesystem::path& folder) {
  if (settings.container.runtime == ContainerRuntime::none || folder.string().find_first_of(",:") == std::string::npos)
    return;
  throw UsageError("slurm: " + settings.name + ": container",
                   "found the folder " + folder.string() +
                       ", expected a path without ',' and ':', which the container's runtime takes for its own");
}

}  // namespace filo
