#include "workspace/workspace.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <tuple>

#include "base/error.hpp"
#include "base/host.hpp"
#include "base/utf8.hpp"
#include "workspace/held_lock.hpp"
#include "workspace/spec.hpp"

namespace filo {

namespace fs = std::filesystem;

Workspace::Workspace(fs::path root, Access access) : WorkspaceLayout(std::move(root)) {
  std::error_code error;
  root_ = fs::absolute(root_, error).lexically_normal();
  if (!root_.has_filename()) root_ = root_.parent_path();
  clock_ = std::make_shared<FileClock>(clock_file(host_name()));
  const std::string where = "workspace " + printable(root_.string());
  if (!is_utf8(root_.string())) throw UsageError(where, "the path is not valid UTF-8, expected one that is");
  const fs::file_status found = fs::status(root_, error);
  if (found.type() == fs::file_type::none) throw UsageError(where, "cannot be looked at: " + error.message());
  if (fs::exists(found) && !fs::is_directory(found)) throw UsageError(where, "found a file, expected a folder");
  if (access == Access::write) {
    fs::create_directories(root_, error);
    if (error) throw UsageError(where, "cannot be made: " + error.message());
  } else if (!fs::exists(found)) {
    throw UsageError(where,
                     "found no such folder, expected a workspace: --workspace or FILO_WORKSPACE names another, `filo "
                     "dataset add` makes one");
  }
  if (::access(root_.c_str(), (access == Access::read ? R_OK : W_OK) | X_OK) != 0)
    throw UsageError(
        where, std::string(access == Access::read ? "cannot be read: " : "cannot be written: ") + std::strerror(errno));
}

void Workspace::create_stage(const std::string& key, const Json& spec) const {
  std::error_code error;
  if (fs::exists(result_file(key), error)) return;
  if (read_json_if_sound(spec_file(key)) == spec && fs::exists(attempts_folder(key), error)) return;
  fs::create_directories(attempts_folder(key));
  if (create_file_exclusively(spec_file(key), spec.dump(2) + "\n")) return;
  const auto existing = read_json_if_sound(spec_file(key));
  if (existing == spec) return;
  write_json(spec_file(key), spec);
}

StageKind Workspace::kind(const std::string& key) const {
  return stage_kind(text_of(read_json(spec_file(key)), spec_member::kind));
}

std::vector<std::string> Workspace::stage_keys() const {
  std::vector<std::string> keys;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(stages_folder(), error)) {
    const std::string name = entry.path().filename().string();
    if (is_stage_key(name)) keys.push_back(name);
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

void Workspace::write_active(const ActiveExperiment& experiment) const {
  const double since = experiment.since > 0 ? experiment.since : wall_time_s();
  write_json(active_file(experiment.name), {{"executor", experiment.executor},
                                            {"cluster", experiment.cluster.empty() ? Json() : Json(experiment.cluster)},
                                            {"since", since},
                                            {"cancelled", experiment.cancelled}});
}

std::optional<ActiveExperiment> Workspace::active(const std::string& name) const {
  const auto json = read_json_if_sound(active_file(name));
  if (!json || !json->is_object()) return std::nullopt;
  return ActiveExperiment{.name = name,
                          .executor = text_of(*json, "executor"),
                          .cluster = text_of(*json, "cluster"),
                          .since = number_of(*json, "since"),
                          .cancelled = json->contains("cancelled") && (*json)["cancelled"] == true};
}

void Workspace::remove_active(const std::string& name) const { remove_file_durably(active_file(name)); }

std::vector<ActiveExperiment> Workspace::active_experiments() const {
  std::vector<ActiveExperiment> experiments;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(experiments_folder(), error))
    if (auto experiment = active(entry.path().filename().string())) experiments.push_back(std::move(*experiment));
  std::sort(experiments.begin(), experiments.end(),
            [](const auto& a, const auto& b) { return std::tie(a.since, a.name) < std::tie(b.since, b.name); });
  return experiments;
}

FileDescriptor Workspace::lock() const { return held_lock(lock_file()); }

}  // namespace filo
