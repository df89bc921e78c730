// Files of a stage that requests may name. Nothing outside the stage's folder, and nothing that result.json does not
// list, is ever opened.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/files.hpp"
#include "workspace/workspace.hpp"

namespace filo::service {

struct ArtifactFile {
  std::string path;  // relative to the stage's folder
  std::uint64_t bytes = 0;
};

// The files of the stage's result (folders walked; links left out), sorted by path, at most `most`.
std::vector<ArtifactFile> artifact_files(const Workspace& workspace, const std::string& key, const StageResult& result,
                                         std::size_t most);

// Opens a regular file that the result lists, or that lies in a folder it lists. Unset for anything else: not listed,
// not there, a folder, a device, or any link on the way.
std::optional<FileDescriptor> open_artifact(const Workspace& workspace, const std::string& key,
                                            const StageResult& result, const std::string& path);

// Walks `relative` from `folder` one name at a time, following no link. Unset when any part is not what it should be.
std::optional<FileDescriptor> open_beneath(const std::filesystem::path& folder, const std::string& relative);

// "image/png"; what a browser might run as a page is application/octet-stream.
std::string media_type(const std::string& path);

}  // namespace filo::service
