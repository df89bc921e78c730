#include "workspace/workspace.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <tuple>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/host.hpp"
#include "base/utf8.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

// A JSON file that may be absent, torn by a full disk of long ago, or edited by hand.
std::optional<Json> read_json_if_sound(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return std::nullopt;
  try {
    return read_json(path);
  } catch (const Error&) {
    return std::nullopt;
  }
}

bool stays_inside(const std::string& relative) {
  const fs::path path = relative;
  if (path.empty() || path.is_absolute()) return false;
  return std::none_of(path.begin(), path.end(), [](const fs::path& part) { return part == ".."; });
}

std::string text_of(const Json& object, const char* key) {
  return object.is_object() && object.contains(key) && object[key].is_string() ? object[key].get<std::string>() : "";
}

double number_of(const Json& object, const char* key) {
  return object.is_object() && object.contains(key) && object[key].is_number() ? object[key].get<double>() : 0;
}

void remove_durably(const fs::path& path) {
  if (unlink(path.c_str()) == 0)
    sync_path(path.parent_path());
  else if (errno != ENOENT)
    throw Error("scheduler: " + path.string(), std::string("cannot be removed: ") + std::strerror(errno));
}

}  // namespace

Json key_view(Json spec) {
  const auto erase = [](Json* object, std::initializer_list<const char*> path, const char* last) {
    for (const char* name : path) {
      if (!object->is_object() || !object->contains(name)) return;
      object = &(*object)[name];
    }
    if (object->is_object()) object->erase(last);
  };
  erase(&spec, {"clip"}, "path");
  erase(&spec, {"model"}, "clip");
  erase(&spec, {"model", "prompts"}, "descriptions");
  erase(&spec, {"boxes"}, "path");
  erase(&spec, {"dataset"}, "name");
  erase(&spec, {"train_dataset"}, "name");
  for (const char* list : {"datasets", "train_datasets"})
    if (spec.contains(list) && spec[list].is_array())
      for (auto& dataset : spec[list]) erase(&dataset, {}, "name");
  erase(&spec, {"train"}, "snapshot_every_steps");
  return spec;
}

std::string to_string(StageKind kind) {
  switch (kind) {
    case StageKind::features:
      return "features";
    case StageKind::boxes:
      return "boxes";
    case StageKind::train:
      return "train";
    case StageKind::evaluate:
      return "evaluate";
    case StageKind::exported:
      return "export";
  }
  return "";
}

StageKind stage_kind(const std::string& name) {
  for (const StageKind kind :
       {StageKind::features, StageKind::boxes, StageKind::train, StageKind::evaluate, StageKind::exported})
    if (to_string(kind) == name) return kind;
  throw Error("scheduler",
              "found the kind of stage \"" + name + "\", expected features, boxes, train, evaluate or export");
}

std::string stage_key(const Json& spec) { return sha256_hex(canonical_json(key_view(spec))).substr(0, 16); }

std::uint64_t key_number(const std::string& key) {
  std::uint64_t number = 0;
  std::from_chars(key.data(), key.data() + key.size(), number, 16);
  return number;
}

Workspace::Workspace(fs::path root, Access access) : root_(std::move(root)) {
  std::error_code error;
  root_ = fs::absolute(root_, error).lexically_normal();
  if (!root_.has_filename()) root_ = root_.parent_path();
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
  if (fs::exists(result_file(key))) return;
  if (read_json_if_sound(spec_file(key)) == spec && fs::exists(stage_folder(key) / "attempts")) return;
  fs::create_directories(stage_folder(key) / "attempts");
  if (create_file_exclusively(spec_file(key), spec.dump(2) + "\n")) return;
  const auto existing = read_json_if_sound(spec_file(key));
  if (existing == spec) return;
  write_json(spec_file(key), spec);
}

std::vector<std::string> Workspace::stage_keys() const {
  std::vector<std::string> keys;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root_ / "stages", error)) {
    const std::string name = entry.path().filename().string();
    if (name.size() == 16 && name.find_first_not_of("0123456789abcdef") == std::string::npos) keys.push_back(name);
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

int Workspace::newest_attempt(const std::string& key) const {
  int newest = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(stage_folder(key) / "attempts", error)) {
    const std::string name = entry.path().filename().string();
    if (!name.empty() && name.size() < 9 && name.find_first_not_of("0123456789") == std::string::npos)
      newest = std::max(newest, std::stoi(name));
  }
  return newest;
}

int Workspace::make_attempt(const std::string& key) const {
  for (;;) {
    const int attempt = newest_attempt(key) + 1;
    if (mkdir(attempt_folder(key, attempt).c_str(), 0755) == 0) return attempt;
    if (errno != EEXIST)
      throw Error("scheduler: " + attempt_folder(key, attempt).string(),
                  std::string("folder cannot be made: ") + std::strerror(errno));
  }
}

std::optional<StageResult> Workspace::result(const std::string& key, StageKind kind) const {
  const auto json = read_json_if_sound(result_file(key));
  if (!json || text_of(*json, "stage") != key || text_of(*json, "kind") != to_string(kind)) return std::nullopt;
  StageResult result;
  if (!json->contains("attempt") || !(*json)["attempt"].is_number_integer()) return std::nullopt;
  const auto attempt = (*json)["attempt"].get<std::int64_t>();
  if (attempt < 1 || attempt != newest_attempt(key)) return std::nullopt;
  result.attempt = static_cast<int>(attempt);
  if (json->contains("seconds") && (*json)["seconds"].is_number()) result.seconds = (*json)["seconds"];
  result.metrics = json->value("metrics", Json::object());
  result.artifacts = Json::object();
  const Json artifacts = json->value("artifacts", Json::object());
  if (!result.metrics.is_object() || !artifacts.is_object()) return std::nullopt;
  for (const auto& [name, path] : artifacts.items())
    if (path.is_string() && stays_inside(path)) result.artifacts[name] = path;
  return result;
}

void Workspace::write_claim(const std::string& key, int attempt, const Json& claim) const {
  write_json(attempt_folder(key, attempt) / "claim.json", claim);
}

std::optional<Json> Workspace::claim(const std::string& key, int attempt) const {
  auto claim = read_json_if_sound(attempt_folder(key, attempt) / "claim.json");
  if (claim && !claim->is_object()) return std::nullopt;
  return claim;
}

void Workspace::touch_claim(const std::string& key, int attempt) const {
  utimensat(AT_FDCWD, (attempt_folder(key, attempt) / "claim.json").c_str(), nullptr, 0);
}

double Workspace::claim_age_s(const std::string& key, int attempt) const {
  struct stat status {};
  if (stat((attempt_folder(key, attempt) / "claim.json").c_str(), &status) != 0) return 1e9;
  return wall_time_s() - static_cast<double>(status.st_mtim.tv_sec);
}

void Workspace::write_end(const std::string& key, int attempt, const AttemptEnd& end) const {
  write_json(attempt_folder(key, attempt) / "end.json",
             {{"outcome", end.outcome}, {"cause", end.cause}, {"reason", end.reason}});
}

std::optional<AttemptEnd> Workspace::end(const std::string& key, int attempt) const {
  const auto json = read_json_if_sound(attempt_folder(key, attempt) / "end.json");
  if (!json) return std::nullopt;
  return AttemptEnd{text_of(*json, "outcome"), text_of(*json, "cause"), text_of(*json, "reason")};
}

void Workspace::write_request(const std::string& key, const StageRequest& request) const {
  write_json(stage_folder(key) / "request.json",
             {{"want", request.want}, {"reason", request.reason}, {"time", wall_time_s()}});
}

std::optional<StageRequest> Workspace::request(const std::string& key) const {
  const auto json = read_json_if_sound(stage_folder(key) / "request.json");
  if (!json) return std::nullopt;
  StageRequest request{text_of(*json, "want"), text_of(*json, "reason"), number_of(*json, "time")};
  if (request.want != "cancel" && request.want != "stop") return std::nullopt;
  return request;
}

void Workspace::remove_request(const std::string& key) const { remove_durably(stage_folder(key) / "request.json"); }

int Workspace::retry_after(const std::string& key) const {
  const auto json = read_json_if_sound(stage_folder(key) / "retry.json");
  return json ? static_cast<int>(number_of(*json, "after_attempt")) : 0;
}

void Workspace::retry(const std::string& key) const {
  const int newest = newest_attempt(key);
  if (newest > retry_after(key)) write_json(stage_folder(key) / "retry.json", {{"after_attempt", newest}});
  remove_request(key);
}

void Workspace::write_active(const ActiveExperiment& experiment) const {
  const double since = experiment.since > 0 ? experiment.since : wall_time_s();
  write_json(experiment_folder(experiment.name) / "active.json",
             {{"executor", experiment.executor},
              {"cluster", experiment.cluster.empty() ? Json() : Json(experiment.cluster)},
              {"since", since},
              {"cancelled", experiment.cancelled}});
}

std::optional<ActiveExperiment> Workspace::active(const std::string& name) const {
  const auto json = read_json_if_sound(experiment_folder(name) / "active.json");
  if (!json || !json->is_object()) return std::nullopt;
  return ActiveExperiment{.name = name,
                          .executor = text_of(*json, "executor"),
                          .cluster = text_of(*json, "cluster"),
                          .since = number_of(*json, "since"),
                          .cancelled = json->contains("cancelled") && (*json)["cancelled"] == true};
}

void Workspace::remove_active(const std::string& name) const {
  remove_durably(experiment_folder(name) / "active.json");
}

std::vector<ActiveExperiment> Workspace::active_experiments() const {
  std::vector<ActiveExperiment> experiments;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root_ / "experiments", error))
    if (auto experiment = active(entry.path().filename().string())) experiments.push_back(std::move(*experiment));
  std::sort(experiments.begin(), experiments.end(),
            [](const auto& a, const auto& b) { return std::tie(a.since, a.name) < std::tie(b.since, b.name); });
  return experiments;
}

std::string Workspace::log_tail(const std::string& key, int attempt, int lines) const {
  constexpr off_t most = 16 << 10;
  std::error_code error;
  const auto path = log_file(key, attempt);
  const auto size = fs::file_size(path, error);
  if (error) return "";
  const FileDescriptor file = open_file(path, O_RDONLY);
  const off_t start = std::max<off_t>(0, static_cast<off_t>(size) - most);
  std::string text(static_cast<std::size_t>(most), '\0');
  const ssize_t got = pread(file.get(), text.data(), text.size(), start);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  std::size_t from = text.size();
  for (int line = 0; line < lines && from != std::string::npos && from > 0; ++line) from = text.rfind('\n', from - 1);
  return from == std::string::npos || from == 0 ? text : text.substr(from + 1);
}

FileDescriptor Workspace::lock() const {
  FileDescriptor file = open_file(root_ / ".lock", O_RDWR | O_CREAT);
  while (flock(file.get(), LOCK_EX) != 0)
    if (errno != EINTR)
      throw Error("scheduler: " + (root_ / ".lock").string(), std::string("cannot be locked: ") + std::strerror(errno));
  return file;
}

std::vector<Json> EventReader::poll() {
  std::vector<Json> events;
  std::error_code error;
  const auto size = fs::file_size(path_, error);
  if (error || size <= offset_) return events;
  const FileDescriptor file = open_file(path_, O_RDONLY);
  std::string text(std::min<std::uint64_t>(size - offset_, 16 << 20), '\0');
  const ssize_t got = pread(file.get(), text.data(), text.size(), static_cast<off_t>(offset_));
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  std::size_t start = 0;
  for (std::size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', start)) {
    Json event = Json::parse(text.begin() + static_cast<std::ptrdiff_t>(start),
                             text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    if (event.is_object() && event.contains("event") && event["event"].is_string()) events.push_back(std::move(event));
    start = end + 1;
  }
  offset_ += start;
  return events;
}

}  // namespace filo
