#include "workspace/run_file.hpp"

#include <unistd.h>

#include <algorithm>

#include "base/host.hpp"
#include "base/json.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

template <typename Use>  // use(path, content, whether its process may live)
void each_run(const Workspace& workspace, const std::string& experiment, const Use& use) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(workspace.runs_folder(experiment), error)) {
    const auto json = entry.path().extension() == ".json" ? read_json_if_sound(entry.path()) : std::nullopt;
    if (json && json->is_object())
      use(entry.path(), *json, claim_holds(*json, [&] { return workspace.age_s(entry.path()); }));
  }
}

}  // namespace

RunFile::RunFile(const Workspace& workspace, const std::string& experiment)
    : path_(workspace.runs_folder(experiment) / (host_name() + "-" + std::to_string(getpid()) + ".json")) {
  std::error_code ignored;
  each_run(workspace, experiment, [&](const fs::path& path, const Json&, bool lives) {
    if (!lives) fs::remove(path, ignored);
  });
  fs::create_directories(path_.parent_path(), ignored);
  Json json = process_claim();
  json["since"] = wall_time_s();
  write_json(path_, json);
  heartbeat_.add(path_);
}

RunFile::~RunFile() {
  std::error_code ignored;
  fs::remove(path_, ignored);
}

std::vector<LivingRun> living_runs(const Workspace& workspace, const std::string& experiment) {
  std::vector<LivingRun> runs;
  each_run(workspace, experiment, [&](const fs::path&, const Json& json, bool lives) {
    if (lives)
      runs.push_back({text_of(json, "host"), static_cast<long>(number_of(json, "pid")), number_of(json, "since")});
  });
  std::sort(runs.begin(), runs.end(), [](const auto& a, const auto& b) { return a.since < b.since; });
  return runs;
}

}  // namespace filo
