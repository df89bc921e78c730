#include "checkpoint/snapshot.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"
#include "base/log.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 3> file_names = {"optimizer.safetensors", parameters_name, "state.json"};
constexpr std::string_view prefix = "step-";
constexpr std::int64_t max_step = 99'999'999;

std::string folder_name(std::int64_t step) {
  const std::string digits = std::to_string(step);
  return std::string(prefix) + std::string(8 - digits.size(), '0') + digits;
}

std::optional<std::int64_t> step_of(const std::string& name) {
  if (!name.starts_with(prefix) || name.size() != prefix.size() + 8) return std::nullopt;
  std::int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [parsed, error] = std::from_chars(name.data() + prefix.size(), end, step);
  if (error != std::errc() || parsed != end || step < 0) return std::nullopt;
  return step;
}

// step -> folder, newest first. Empty when there is no such folder.
std::map<std::int64_t, fs::path, std::greater<>> snapshots_in(const fs::path& folder) {
  std::map<std::int64_t, fs::path, std::greater<>> found;
  std::error_code error;
  if (!fs::exists(folder, error)) return found;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (const auto step = step_of(entry->path().filename().string())) found[*step] = entry->path();
  if (error) throw Error("snapshot: " + folder.string(), "cannot be listed: " + error.message());
  return found;
}

// A line of SHA256SUMS.
std::string sum_line(const std::string& digest, std::string_view name) {
  return digest + "  " + std::string(name) + "\n";
}

// Throws Error that says what is damaged.
Snapshot checked_snapshot(const fs::path& folder, std::int64_t step) {
  std::istringstream lines(read_file(folder / "SHA256SUMS"));
  std::map<std::string, std::string> expected;
  for (std::string line; std::getline(lines, line);)
    if (line.size() > 66) expected[line.substr(66)] = line.substr(0, 64);
  for (const std::string_view view : file_names) {
    const std::string name(view);
    const auto sum = expected.find(name);
    if (sum == expected.end()) throw Error("snapshot: " + (folder / "SHA256SUMS").string(), "has no line for " + name);
    const std::string found = sha256_hex_of_file(folder / name);
    if (found != sum->second)
      throw Error("snapshot: " + (folder / name).string(), "SHA-256 found: " + found + ", expected " + sum->second);
  }
  return {.folder = folder, .step = step, .state = read_json(folder / "state.json")};
}

void remove_or_warn(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) log_warning("snapshot: " + path.string() + ": cannot be removed: " + error.message());
}

}  // namespace

Snapshot write_snapshot(const fs::path& folder, std::int64_t step, const WriteFile& write_params,
                        const WriteFile& write_optimizer, const Json& state) {
  if (step < 0 || step > max_step)
    throw Error("snapshot: " + folder.string(),
                "step found: " + std::to_string(step) + ", expected 0 to " + std::to_string(max_step));
  AtomicFolder output(folder / folder_name(step));
  Sha256 optimizer, params;
  write_params(parameters_file(output.path()), params);
  write_optimizer(output.path() / "optimizer.safetensors", optimizer);
  write_json(output.path() / "state.json", state);
  const std::string state_digest = sha256_hex_of_file(output.path() / "state.json");
  write_file_atomically(output.path() / "SHA256SUMS", sum_line(optimizer.hex(), "optimizer.safetensors") +
                                                          sum_line(params.hex(), parameters_name) +
                                                          sum_line(state_digest, "state.json"));
  output.commit();
  return {.folder = folder / folder_name(step), .step = step, .state = state};
}

std::optional<Snapshot> newest_valid_snapshot(const fs::path& folder, const TakeSnapshot& take,
                                              const PassedOver& passed_over) {
  for (const auto& [step, path] : snapshots_in(folder)) {
    try {
      Snapshot snapshot = checked_snapshot(path, step);
      if (take) take(snapshot);
      return snapshot;
    } catch (const Error& error) {
      log_warning("a snapshot is passed over: " + std::string(error.what()));
      if (passed_over) passed_over(path, error.what());
    }
  }
  return std::nullopt;
}

Snapshot snapshot_at(const fs::path& folder, std::int64_t step) {
  return checked_snapshot(folder / folder_name(step), step);
}

void prune_snapshots(const fs::path& folder, std::int64_t newest, std::size_t keep, std::int64_t best) {
  std::size_t kept = 0;
  for (const auto& [step, path] : snapshots_in(folder)) {
    if (step <= newest && kept < std::max<std::size_t>(keep, 1))
      ++kept;
    else if (best == 0 || step != best)
      remove_or_warn(path);
  }
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("." + std::string(prefix)) && name.ends_with(".tmp")) remove_or_warn(entry.path());
  }
}

}  // namespace filo
