#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.hpp"
#include "base/host.hpp"
#include "workspace/workspace.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

// The largest number that names an entry of the folder; 0 when none does.
int newest_number(const fs::path& folder) {
  int newest = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.empty() && name.size() < 9 && name.find_first_not_of("0123456789") == std::string::npos)
      newest = std::max(newest, std::stoi(name));
  }
  return newest;
}

// False: it is there. mkdir is the test-and-set.
bool make_number(const fs::path& folder, int number) {
  const fs::path path = folder / std::to_string(number);
  if (mkdir(path.c_str(), 0755) == 0) return true;
  if (errno == EEXIST) return false;
  throw Error("workspace: " + path.string(), std::string("folder cannot be made: ") + std::strerror(errno));
}

// Makes a folder of the number after the newest, where what is listed may lag behind.
int make_next_number(const fs::path& folder) {
  int number = newest_number(folder) + 1;
  while (!make_number(folder, number)) number = std::max(number, newest_number(folder)) + 1;
  return number;
}

}  // namespace

int Workspace::newest_attempt(const std::string& key) const { return newest_number(attempts_folder(key)); }

bool Workspace::make_attempt_after(const std::string& key, int newest) const {
  return make_number(attempts_folder(key), newest + 1);
}

int Workspace::make_attempt(const std::string& key) const { return make_next_number(attempts_folder(key)); }

int Workspace::make_start(const std::string& key, int attempt) const {
  const fs::path starts = starts_folder(key, attempt);
  fs::create_directories(starts);
  const int start = make_next_number(starts);
  sync_path(starts);
  return start;
}

void Workspace::expect_current(const std::string& key, int attempt, int start) const {
  const auto refuse = [&](const std::string& superseded, int newer) {
    throw Error("worker: " + stage_folder(key).string(),
                superseded + std::to_string(newer) + "; nothing of it is recorded any more");
  };
  const std::string name = "attempt " + std::to_string(attempt);
  if (const int newest = newest_attempt(key); newest > attempt) refuse(name + " was superseded by attempt ", newest);
  if (const int newest = newest_number(starts_folder(key, attempt)); newest > start)
    refuse("start " + std::to_string(start) + " of " + name + " was superseded by start ", newest);
}

void Workspace::commit(const StageResult& result, int start) const {
  expect_current(result.stage, result.attempt, start);
  const fs::path made = start_folder(result.stage, result.attempt, start);
  for (const auto& artifact : result.artifacts.items()) {
    const auto& path = artifact.value().get_ref<const std::string&>();
    replace_path(made / path, stage_folder(result.stage) / path);
  }
  expect_current(result.stage, result.attempt, start);
  write_json(result_file(result.stage), to_json(result));
  std::error_code ignored;
  for (int attempt = 1; attempt <= result.attempt; ++attempt)
    for (const auto& one : fs::directory_iterator(starts_folder(result.stage, attempt), ignored))
      for (const auto& left : fs::directory_iterator(one.path(), ignored)) fs::remove_all(left.path(), ignored);
}

std::optional<StageResult> Workspace::result(const std::string& key, StageKind kind) const {
  const auto json = read_json_if_sound(result_file(key));
  auto result = json ? stage_result_from_json(*json) : std::nullopt;
  if (!result || result->stage != key || result->kind != kind || result->attempt > newest_attempt(key))
    return std::nullopt;
  return result;
}

void Workspace::withdraw_result(const std::string& key) const {
  std::error_code error;
  if (!fs::exists(result_file(key), error)) return;
  retry(key);
  remove_file_durably(result_file(key));
}

void Workspace::write_claim(const std::string& key, int attempt, const Json& claim) const {
  write_json(claim_file(key, attempt), claim);
}

std::optional<Json> Workspace::claim(const std::string& key, int attempt) const {
  auto claim = read_json_if_sound(claim_file(key, attempt));
  if (claim && !claim->is_object()) return std::nullopt;
  return claim;
}

double Workspace::awaited_s(const std::string& key, int attempt) const {
  const fs::path file = awaited_file(key, attempt);
  return create_file_exclusively(file, "") ? 0 : age_s(file);
}

void Workspace::write_outcome(const std::string& key, int attempt, const AttemptOutcome& end) const {
  Json json = {{"outcome", end.outcome}, {"cause", end.cause}, {"reason", end.reason}};
  if (!end.node.empty()) json["node"] = end.node;
  write_json(outcome_file(key, attempt), json);
}

std::optional<AttemptOutcome> Workspace::outcome(const std::string& key, int attempt) const {
  const auto json = read_json_if_sound(outcome_file(key, attempt));
  if (!json) return std::nullopt;
  return AttemptOutcome{text_of(*json, "outcome"), text_of(*json, "cause"), text_of(*json, "reason"),
                        text_of(*json, "node")};
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

}  // namespace filo
