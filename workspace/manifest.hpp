// artifacts/DIGEST/manifest/KEY.json: what is known of a collected checkpoint, a record for each stage that made or
// measured it. A record is written once, when the stage's end is recorded (again where a later attempt does it again),
// and holds all that a reader needs when the stage's own folder and the experiment are gone:
//
//   all       format (1), kind ("train" or "evaluate"), stage (its key), attempt, experiment (on whose behalf; "" where
//             nobody said), settings {model, train or evaluate}, seed, clip {path, digest}, parents (the spec's
//             `inputs`), descriptions (SHA-256 of those that the stage's prompts were made of), boxes (of the file,
//             where it looked at one: {source, path, digest}), host (of rank 0), versions {filo, torch},
//             products (who computes matrix products), started (seconds since 1970), seconds, world_size, threads,
//             device, sha256 (of the record's canonical JSON without this member)
//   train     datasets [{name, digest}], weights (SHA-256 of params.safetensors); of one that took a checkpoint also
//             checkpoint {path, digest}
//   evaluate  dataset {name, digest}, train_datasets [{name, digest}], metrics with intervals, without those of classes
//
// What a stage of a former version did not tell (host, versions, products) is not there.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// Of a stage that is done; unset where its spec or result is not there. `weights`: of a training.
std::optional<Json> manifest_record(const Workspace& workspace, const std::string& key, StageKind kind,
                                    const std::string& experiment, const std::string& weights = "");

// Puts the record into the artifact's manifest; one of this attempt that is there and sound stays as it is.
void add_to_manifest(const Workspace& workspace, const std::string& digest, const Json& record);

// Whether a sound record of this attempt at the stage is there already: then none has to be made.
bool is_in_manifest(const Workspace& workspace, const std::string& digest, const std::string& key, int attempt);

struct CheckpointManifest {
  std::vector<Json> trainings;          // by key; none where a former version collected it
  std::vector<Json> evaluations;        // by key
  std::vector<std::string> problems{};  // "manifest/KEY.json: ..." of records that are not as they were written
};
// Records that are not sound are left out, and told of in `problems`.
CheckpointManifest read_checkpoint_manifest(const Workspace& workspace, const std::string& digest);

}  // namespace filo
