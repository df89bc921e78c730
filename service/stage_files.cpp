#include "service/stage_files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>

namespace filo::service {
namespace {

namespace fs = std::filesystem;

std::string normal(const std::string& path) {
  std::string text = fs::path(path).lexically_normal().generic_string();
  while (!text.empty() && text.back() == '/') text.pop_back();
  return text;
}

bool is_listed(const StageResult& result, const std::string& path) {
  return std::any_of(result.artifacts.begin(), result.artifacts.end(), [&](const Json& listed) {
    const std::string root = normal(listed.get<std::string>());
    return root != "." && !root.empty() && (path == root || path.starts_with(root + "/"));
  });
}

void add_file(const fs::directory_entry& entry, const fs::path& folder, std::vector<ArtifactFile>& files) {
  std::error_code error;
  if (entry.is_symlink(error) || !entry.is_regular_file(error)) return;
  const auto bytes = entry.file_size(error);
  if (!error) files.push_back({entry.path().lexically_relative(folder).generic_string(), bytes});
}

}  // namespace

std::vector<ArtifactFile> artifact_files(const Workspace& workspace, const std::string& key, const StageResult& result,
                                         std::size_t most) {
  std::vector<ArtifactFile> files;
  const fs::path folder = workspace.stage_folder(key);
  for (const Json& listed : result.artifacts) {
    const std::string root = normal(listed.get<std::string>());
    if (!is_listed(result, root)) continue;
    std::error_code error;
    const fs::directory_entry entry(folder / root, error);
    if (error || entry.is_symlink(error)) continue;
    if (!entry.is_directory(error)) {
      add_file(entry, folder, files);
      continue;
    }
    for (fs::recursive_directory_iterator each(entry.path(), error), end; !error && each != end;
         each.increment(error)) {
      if (files.size() >= most) break;
      add_file(*each, folder, files);
    }
  }
  const auto by_path = [](const ArtifactFile& a, const ArtifactFile& b) { return a.path < b.path; };
  std::sort(files.begin(), files.end(), by_path);
  const auto same = [](const ArtifactFile& a, const ArtifactFile& b) { return a.path == b.path; };
  files.erase(std::unique(files.begin(), files.end(), same), files.end());
  if (files.size() > most) files.resize(most);
  return files;
}

std::optional<FileDescriptor> open_beneath(const fs::path& folder, const std::string& relative) {
  FileDescriptor at(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  std::size_t start = 0;
  while (at.valid()) {
    const auto slash = relative.find('/', start);
    const std::string name = relative.substr(start, slash == std::string::npos ? slash : slash - start);
    if (name.empty() || name == "." || name == ".." || name.find('\0') != std::string::npos) return std::nullopt;
    if (slash == std::string::npos) {  // O_NONBLOCK: a named pipe must not hold the server
      FileDescriptor file(openat(at.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
      struct stat status {};
      if (!file.valid() || fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
      return file;
    }
    at = FileDescriptor(openat(at.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    start = slash + 1;
  }
  return std::nullopt;
}

std::optional<FileDescriptor> open_artifact(const Workspace& workspace, const std::string& key,
                                            const StageResult& result, const std::string& path) {
  if (path != normal(path) || !is_listed(result, path)) return std::nullopt;
  return open_beneath(workspace.stage_folder(key), path);
}

std::string media_type(const std::string& path) {
  static const std::map<std::string, std::string> types = {{".png", "image/png"},
                                                           {".jpg", "image/jpeg"},
                                                           {".json", "application/json"},
                                                           {".jsonl", "application/x-ndjson"},
                                                           {".txt", "text/plain; charset=utf-8"},
                                                           {".csv", "text/csv; charset=utf-8"}};
  const auto found = types.find(fs::path(path).extension().string());
  return found == types.end() ? "application/octet-stream" : found->second;
}

}  // namespace filo::service
