// Copies of feature caches on a disk of this machine, which many machines read faster than a file server.
#pragma once

#include <filesystem>
#include <optional>

#include "data/parallel.hpp"

namespace filo {

// Where the copy of the cache in `folder` lies on `disk`: DISK/filo-features/KEY-DIGEST, DIGEST being of its manifest.
// Throws Error when the manifest is not there.
std::filesystem::path local_copy_folder(const std::filesystem::path& folder, const std::filesystem::path& disk);

// Copies what is not there yet, comparing each shard with its SHA-256 (of format 1: its size), the manifest last. Where
// there is no room, other copies go first, the longest unused before the others, but for those whose file `used` was
// touched within ten minutes. Several processes may copy at once: each file appears whole. False: there is no room,
// which a warning says; nothing of it is left. Throws Error on a shard that is not what the manifest says.
bool make_local_copy(const std::filesystem::path& folder, const std::filesystem::path& disk,
                     const Progress& progress = nullptr);

// The file that whoever reads a copy touches every few minutes at least (workspace/claim.hpp: Heartbeat).
std::filesystem::path local_copy_in_use(const std::filesystem::path& copy);

}  // namespace filo
