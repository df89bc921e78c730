// Snapshots of a training run: snapshots/step-NNNNNNNN/{params.safetensors, optimizer.safetensors, state.json,
// SHA256SUMS}. A snapshot is there whole or not at all, and is checked before it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.hpp"
#include "base/json.hpp"
#include "workspace/checkpoint_files.hpp"

namespace filo {

struct Snapshot {
  std::filesystem::path folder;  // .../step-NNNNNNNN
  std::int64_t step = 0;
  Json state;  // state.json

  std::filesystem::path params() const { return parameters_file(folder); }
  std::filesystem::path optimizer() const { return folder / "optimizer.safetensors"; }
};

// Writes one of the two tensor files at the path it is given, and feeds the digest its bytes (write_safetensors): they
// are not read again.
using WriteFile = std::function<void(const std::filesystem::path&, Sha256& digest)>;

// Writes `folder`/step-NNNNNNNN (`folder` is "STAGE/snapshots"), durably, by rename. One writer at a time (rank 0).
// A snapshot of the same step is replaced. SHA256SUMS is what `sha256sum -c` reads. Throws Error; nothing is left then.
Snapshot write_snapshot(const std::filesystem::path& folder, std::int64_t step, const WriteFile& write_params,
                        const WriteFile& write_optimizer, const Json& state);

// Told of a snapshot that is passed over: its folder and why.
using PassedOver = std::function<void(const std::filesystem::path&, const std::string&)>;
// Takes a snapshot whose files are whole into use; throws Error where it is of no use all the same.
using TakeSnapshot = std::function<void(const Snapshot&)>;

// The snapshot of the highest step whose files all match their SHA256SUMS, and that `take` did not refuse. Others are
// named in a warning and passed over. nullopt when there is none, or no folder.
std::optional<Snapshot> newest_valid_snapshot(const std::filesystem::path& folder, const TakeSnapshot& take = {},
                                              const PassedOver& passed_over = {});

// The snapshot of this step; throws Error naming what is missing or damaged.
Snapshot snapshot_at(const std::filesystem::path& folder, std::int64_t step);

// After the snapshot of step `newest` was written: keeps it, the `keep` - 1 before it, and that of step `best` (0:
// none); removes others, those of later steps too (they were passed over, or this one would not have been written), and
// what killed writers left. Reads none of them. By the one writer only. What cannot be removed is only a warning.
void prune_snapshots(const std::filesystem::path& folder, std::int64_t newest, std::size_t keep, std::int64_t best = 0);

}  // namespace filo
