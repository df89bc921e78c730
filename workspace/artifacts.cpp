#include "workspace/artifacts.hpp"

#include <algorithm>
#include <vector>

#include "base/error.hpp"
#include "base/hash.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

std::optional<fs::path> checkpoint_of_stage(const Workspace& workspace, const std::string& train) {
  const auto result = workspace.result(train, StageKind::train);
  if (!result || !result->artifacts.contains(artifact_name::checkpoint)) return std::nullopt;
  return workspace.stage_folder(train) / result->artifacts[artifact_name::checkpoint].get<std::string>();
}

std::vector<std::string> files_of(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) names.push_back(fs::relative(entry.path(), folder).generic_string());
  std::sort(names.begin(), names.end());
  return names;
}

std::string digest_of(const fs::path& folder, const std::vector<std::string>& names) {
  Sha256 hash;
  for (const auto& name : names) hash.update(sha256_hex_of_file(folder / name) + "  " + name + "\n");
  return hash.hex();
}

bool is_digest(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::optional<std::string> collected_digest(const Workspace& workspace, const std::string& train) {
  const fs::path note = workspace.collected_file(train);
  std::error_code error;
  if (!fs::exists(note, error)) return std::nullopt;
  try {
    const std::string digest = read_json(note).at("checkpoint");
    if (is_digest(digest) && fs::is_directory(workspace.artifact_folder(digest), error)) return digest;
  } catch (const std::exception&) {  // a note that cannot be read is written again
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> collect_checkpoint(const Workspace& workspace, const std::string& train) {
  if (const auto digest = collected_digest(workspace, train)) return digest;
  const auto folder = checkpoint_of_stage(workspace, train);
  std::error_code error;
  if (!folder || !fs::is_directory(*folder, error)) return std::nullopt;
  const auto names = files_of(*folder);
  const std::string digest = digest_of(*folder, names);
  if (!fs::is_directory(workspace.artifact_folder(digest), error)) {
    AtomicFolder artifact(workspace.artifact_folder(digest));
    for (const auto& name : names) {
      fs::create_directories((artifact.path() / name).parent_path());
      fs::create_hard_link(*folder / name, artifact.path() / name, error);
      if (error) fs::copy_file(*folder / name, artifact.path() / name);
    }
    artifact.commit();
  }
  write_json(workspace.collected_file(train), {{"checkpoint", digest}});
  return digest;
}

std::optional<fs::path> kept_checkpoint(const Workspace& workspace, const std::string& train) {
  if (const auto digest = collected_digest(workspace, train)) return workspace.artifact_folder(*digest);
  return checkpoint_of_stage(workspace, train);
}

}  // namespace filo
