#include "workspace/compaction.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <optional>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/files.hpp"
#include "workspace/events.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
constexpr std::uint64_t room_for_a_note = 128;
constexpr std::int64_t all_but_edges = INT64_MAX;

// Opened, so that a file server is asked; 0 where there is none.
std::uint64_t size_of(const FileDescriptor& file) {
  struct stat status {};
  return file.valid() && fstat(file.get(), &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
}
FileDescriptor open_if_there(const fs::path& path) { return FileDescriptor(open(path.c_str(), O_RDONLY | O_CLOEXEC)); }

std::string read_at(const FileDescriptor& file, std::uint64_t offset, std::uint64_t bytes) {
  std::string text(bytes, '\0');
  std::size_t got = 0;
  for (ssize_t more = 1; more > 0 && got < text.size(); got += static_cast<std::size_t>(std::max<ssize_t>(more, 0)))
    more = pread(file.get(), text.data() + got, text.size() - got, static_cast<off_t>(offset + got));
  text.resize(got);
  return text;
}

// A `step` event, as far as it decides whether it stays.
struct Step {
  std::int64_t step = 0;
  bool edge = false;  // the first or the last of its epoch
  bool stays(std::int64_t every) const { return edge || step % every == 0; }
};

std::optional<Step> step_of(std::string_view line) {
  const auto event = parse_event(line);
  if (!event || (*event)["event"] != "step" || !event->contains("step") || !(*event)["step"].is_number_integer())
    return std::nullopt;
  const double at = number_of(*event, "epoch_step");
  return Step{(*event)["step"].get<std::int64_t>(), at == 1 || (at > 0 && at == number_of(*event, "steps"))};
}

template <typename Use>
void each_line(const fs::path& path, const Use& use) {
  std::ifstream file(path, std::ios::binary);
  for (std::string line; std::getline(file, line);) use(line + (file.eof() ? "" : "\n"));
  if (file.bad()) throw Error("workspace: " + path.string(), "read failed");
}

// Of which number's multiples the steps in this file have to be, 1 for all of them, so that it comes to `wanted` bytes.
std::int64_t thinning(const fs::path& path, std::uint64_t wanted) {
  std::uint64_t kept = 0, others = 0;
  each_line(path, [&](const std::string& line) {
    const auto step = step_of(line);
    (step && !step->edge ? others : kept) += line.size();
  });
  if (others == 0) return 1;
  if (kept >= wanted) return all_but_edges;
  return static_cast<std::int64_t>((others + wanted - kept - 1) / (wanted - kept));
}

void thin(const fs::path& path, std::int64_t every) {
  std::string text;
  bool thinned = false;
  each_line(path, [&](const std::string& line) {
    const auto step = step_of(line);
    const bool stays = !step || step->stays(every);
    if (stays) text += line;
    thinned = thinned || !stays;
  });
  if (thinned) write_file_atomically(path, text);
}

}  // namespace

bool compact_log(const Workspace& workspace, const std::string& key, int attempt, const CompactionLimits& limits) {
  const fs::path path = workspace.log_file(key, attempt);
  const FileDescriptor file = open_if_there(path);
  const std::uint64_t size = size_of(file);
  if (size <= limits.untouched) return false;
  std::string begin = read_at(file, 0, limits.log_begin);
  const std::uint64_t rest = limits.log_end - std::min(limits.log_end, room_for_a_note);
  std::string end = read_at(file, size - rest, rest);
  // Where there is no line's end, as after bars of progress, a line is cut.
  if (const auto newline = begin.rfind('\n'); newline != std::string::npos) begin.resize(newline + 1);
  if (const auto newline = end.find('\n'); newline != std::string::npos) end.erase(0, newline + 1);
  const std::string note = (begin.ends_with('\n') ? "" : "\n") + std::string("--- ") +
                           std::to_string(size - begin.size() - end.size()) + " bytes were left out here ---\n";
  const std::array<std::string_view, 3> pieces = {begin, note, end};
  write_file_atomically(path, pieces);
  return true;
}

bool compact_events(const Workspace& workspace, const std::string& key, const CompactionLimits& limits) {
  const int newest = workspace.newest_attempt(key);
  std::int64_t every = 1;
  for (int attempt = 1; attempt <= newest; ++attempt)
    if (const fs::path path = workspace.events_file(key, attempt); size_of(open_if_there(path)) > limits.untouched)
      every = std::max(every, thinning(path, limits.events));
  if (every == 1) return false;
  for (int attempt = 1; attempt <= newest; ++attempt)
    if (workspace.outcome(key, attempt)) thin(workspace.events_file(key, attempt), every);
  return true;
}

}  // namespace filo
