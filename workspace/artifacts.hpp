// WORKSPACE/artifacts/: what is worth keeping of finished stages, by content, so that two trainings that came to the
// same parameters are one artifact and a stage's folder may go.
//
//   artifacts/DIGEST/params.safetensors, settings.json    the checkpoint
//   artifacts/DIGEST/SHA256SUMS                           of its files; DIGEST is the SHA-256 of this file
//   artifacts/DIGEST/manifest/KEY.json                    what made and measured it (workspace/manifest.hpp)
//   tags/NAME.json                                        {"checkpoint": DIGEST, "time"}: a name that people gave it
//
// Those that former versions collected have neither SHA256SUMS nor a manifest.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "workspace/workspace.hpp"

namespace filo {

inline constexpr std::size_t digits_shown = 16;  // of an artifact's digest, to people

// Makes artifacts/DIGEST/ of a finished training's checkpoint (hard links; copies where the file system has none) with
// its manifest, and notes it in stages/KEY/collected.json. DIGEST: SHA-256 over the names and contents of its files, 64
// hex digits. There already: nothing is changed. `experiment`: on whose behalf, for the manifest. Returns the digest;
// unset when the stage has no checkpoint. Throws Error when it cannot be written.
std::optional<std::string> collect_checkpoint(const Workspace& workspace, const std::string& train,
                                              const std::string& experiment = "");

// Adds what a finished evaluation measured to the manifest of the checkpoint that it evaluated, if that was collected.
// There already: nothing is changed.
void collect_evaluation(const Workspace& workspace, const std::string& evaluate, const std::string& experiment = "");

// The digest under which a training's checkpoint was collected; unset where it was not, or was removed since.
std::optional<std::string> collected_digest(const Workspace& workspace, const std::string& train);

// The folder of a training's checkpoint: the collected one, else the stage's own; unset when it has none.
std::optional<std::filesystem::path> kept_checkpoint(const Workspace& workspace, const std::string& train);

std::vector<std::string> artifact_digests(const Workspace& workspace);  // sorted
bool is_artifact_digest(const std::string& text);                       // 64 lower-case hex digits

// What of an artifact is not as it was collected, each with the file it is about: "params.safetensors: ..."; none where
// every byte is. Reads all of it.
std::vector<std::string> artifact_problems(const Workspace& workspace, const std::string& digest);

// A copy with its manifest at `to`, which is not there yet. Throws Error where the copy is not the checkpoint of this
// digest (nothing is left behind then), UsageError where `to` is there.
void copy_artifact(const Workspace& workspace, const std::string& digest, const std::filesystem::path& to);

// Gone in one step. Under Workspace::lock(), and after who needs it was asked.
void remove_artifact(const Workspace& workspace, const std::string& digest);

// {name: digest}
std::map<std::string, std::string> artifact_tags(const Workspace& workspace);
// Throws UsageError on a name that may not be one (it reads as digits of a digest, or is no plain name) or that another
// artifact has.
void tag_artifact(const Workspace& workspace, const std::string& digest, const std::string& name);
void remove_tag(const Workspace& workspace, const std::string& name);  // throws UsageError where there is none

// The artifact whose digest begins with `text`, or that has the tag. Throws UsageError when there is none, or more than
// one.
std::string find_artifact(const Workspace& workspace, const std::string& text);

}  // namespace filo
