// WORKSPACE/artifacts/: what is worth keeping of finished stages, by content, so that two trainings that came to the
// same parameters are one artifact and a stage's folder may go.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "workspace/workspace.hpp"

namespace filo {

// Makes artifacts/DIGEST/ of a finished training's checkpoint (hard links; copies where the file system has none) and
// notes it in stages/KEY/collected.json. DIGEST: SHA-256 over the names and contents of its files, 64 hex digits. There
// already: nothing is done. Returns the digest; unset when the stage has no checkpoint. Throws Error when it cannot be
// written.
std::optional<std::string> collect_checkpoint(const Workspace& workspace, const std::string& train);

// The folder of a training's checkpoint: the collected one, else the stage's own; unset when it has none.
std::optional<std::filesystem::path> kept_checkpoint(const Workspace& workspace, const std::string& train);

}  // namespace filo
