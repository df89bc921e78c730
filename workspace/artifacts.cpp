#include "workspace/artifacts.hpp"

#include <algorithm>
#include <sstream>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/host.hpp"
#include "base/text.hpp"
#include "base/utf8.hpp"
#include "workspace/checkpoint_files.hpp"
#include "workspace/manifest.hpp"
#include "workspace/spec.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t digest_digits = 64;
constexpr const char* removed = ".removed-";  // before the digest, while an artifact is being removed

std::optional<fs::path> checkpoint_of_stage(const Workspace& workspace, const std::string& train) {
  const auto result = workspace.result(train, StageKind::train);
  if (!result || !result->artifacts.contains(artifact_name::checkpoint)) return std::nullopt;
  return workspace.stage_folder(train) / result->artifacts[artifact_name::checkpoint].get<std::string>();
}

// Of the checkpoint itself: what an artifact has beside it is left out.
std::vector<std::string> files_of(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = fs::relative(entry.path(), folder).generic_string();
    if (entry.is_regular_file() && name != "SHA256SUMS" && !name.starts_with("manifest/")) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// As `sha256sum` writes them.
std::string sums_of(const fs::path& folder, const std::vector<std::string>& names) {
  std::string sums;
  for (const auto& name : names) sums += sha256_hex_of_file(folder / name) + "  " + name + "\n";
  return sums;
}

std::map<std::string, std::string> parse_sums(const std::string& text) {
  std::map<std::string, std::string> sums;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (line.size() > digest_digits + 2) sums[line.substr(digest_digits + 2)] = line.substr(0, digest_digits);
  return sums;
}

void link_or_copy(const fs::path& from, const fs::path& to, const std::vector<std::string>& names) {
  std::error_code error;
  for (const auto& name : names) {
    fs::create_directories((to / name).parent_path());
    fs::create_hard_link(from / name, to / name, error);
    if (error) fs::copy_file(from / name, to / name);
  }
}

void add_record(const Workspace& workspace, const std::string& digest, const std::string& key, StageKind kind,
                const std::string& experiment) {
  const auto result = workspace.result(key, kind);
  if (!result || is_in_manifest(workspace, digest, key, result->attempt)) return;
  std::string weights;
  if (const fs::path parameters = parameters_file(workspace.artifact_folder(digest)); kind == StageKind::train) {
    std::error_code error;
    if (fs::exists(workspace.artifact_sums_file(digest), error))  // read when it was collected
      weights = parse_sums(read_file(workspace.artifact_sums_file(digest)))[parameters_name];
    else if (fs::exists(parameters, error))
      weights = sha256_hex_of_file(parameters);
  }
  if (const auto record = manifest_record(workspace, key, kind, experiment, weights))
    add_to_manifest(workspace, digest, *record);
}

std::string place(const std::string& digest) { return "checkpoints: " + digest.substr(0, digits_shown); }

}  // namespace

bool is_artifact_digest(const std::string& text) {
  return text.size() == digest_digits && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::optional<std::string> collected_digest(const Workspace& workspace, const std::string& train) {
  const auto note = read_json_if_sound(workspace.collected_file(train));  // one that cannot be read is written again
  if (!note) return std::nullopt;
  const std::string digest = text_of(*note, "checkpoint");
  std::error_code error;
  if (is_artifact_digest(digest) && fs::is_directory(workspace.artifact_folder(digest), error)) return digest;
  return std::nullopt;
}

std::optional<std::string> collect_checkpoint(const Workspace& workspace, const std::string& train,
                                              const std::string& experiment) {
  std::optional<std::string> digest = collected_digest(workspace, train);
  if (!digest) {
    const auto folder = checkpoint_of_stage(workspace, train);
    std::error_code error;
    if (!folder || !fs::is_directory(*folder, error)) return std::nullopt;
    const auto names = files_of(*folder);
    const std::string sums = sums_of(*folder, names);
    digest = sha256_hex(sums);
    if (!fs::is_directory(workspace.artifact_folder(*digest), error)) {
      AtomicFolder artifact(workspace.artifact_folder(*digest));
      link_or_copy(*folder, artifact.path(), names);
      write_file_atomically(artifact.path() / "SHA256SUMS", sums);
      artifact.commit();
    }
  }
  add_record(workspace, *digest, train, StageKind::train, experiment);
  if (collected_digest(workspace, train) != digest)
    write_json(workspace.collected_file(train), {{"checkpoint", *digest}});
  return digest;
}

void collect_evaluation(const Workspace& workspace, const std::string& evaluate, const std::string& experiment) {
  const auto spec = read_json_if_sound(workspace.spec_file(evaluate));
  if (!spec || !spec->is_object()) return;
  const std::string train = text_of(spec->value(spec_member::inputs, Json::object()), spec_input::train);
  if (!is_stage_key(train)) return;
  const auto digest = collected_digest(workspace, train);
  if (!digest) return;
  add_record(workspace, *digest, train, StageKind::train, experiment);  // collected by a version without manifests
  add_record(workspace, *digest, evaluate, StageKind::evaluate, experiment);
}

std::optional<fs::path> kept_checkpoint(const Workspace& workspace, const std::string& train) {
  if (const auto digest = collected_digest(workspace, train)) return workspace.artifact_folder(*digest);
  return checkpoint_of_stage(workspace, train);
}

std::vector<std::string> artifact_digests(const Workspace& workspace) {
  std::vector<std::string> digests;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(workspace.artifacts_folder(), error))
    if (const std::string name = entry.path().filename().string(); is_artifact_digest(name)) digests.push_back(name);
  std::sort(digests.begin(), digests.end());
  return digests;
}

std::vector<std::string> artifact_problems(const Workspace& workspace, const std::string& digest) {
  const fs::path folder = workspace.artifact_folder(digest), sums_file = workspace.artifact_sums_file(digest);
  std::vector<std::string> problems;
  const auto names = files_of(folder);
  const std::string found = sums_of(folder, names);
  std::error_code error;
  const bool has_sums = fs::exists(sums_file, error);
  const std::string told = has_sums ? read_file(sums_file) : "";
  const bool told_soundly = has_sums && sha256_hex(told) == digest;
  if (has_sums && !told_soundly)
    problems.push_back("SHA256SUMS: has SHA-256 " + sha256_hex(told) + ", expected the artifact's name");
  if (told_soundly) {
    const auto expected = parse_sums(told), here = parse_sums(found);
    for (const auto& [name, sum] : expected) {
      if (!here.contains(name))
        problems.push_back(name + ": is missing");
      else if (here.at(name) != sum)
        problems.push_back(name + ": has SHA-256 " + here.at(name) + ", expected " + sum);
    }
    for (const auto& [name, sum] : here)
      if (!expected.contains(name)) problems.push_back(name + ": is no file of this checkpoint");
  } else if (sha256_hex(found) != digest) {
    std::string all;
    for (const auto& name : names) all += (all.empty() ? "" : ", ") + name;
    problems.push_back((all.empty() ? "no file" : all) + ": of these names and contents the digest is " +
                       sha256_hex(found) + ", expected the artifact's name; no sound SHA256SUMS says which file it is");
  }
  const auto manifest = read_checkpoint_manifest(workspace, digest);
  problems.insert(problems.end(), manifest.problems.begin(), manifest.problems.end());
  return problems;
}

void copy_artifact(const Workspace& workspace, const std::string& digest, const fs::path& to) {
  std::error_code error;
  if (fs::exists(to, error))
    throw UsageError("checkpoints: " + to.string(), "is there already, expected a folder that is yet to be made");
  const fs::path from = workspace.artifact_folder(digest);
  AtomicFolder copy(to.has_filename() ? to : to.parent_path());
  fs::copy(from, copy.path(), fs::copy_options::recursive);
  if (const std::string found = sha256_hex(sums_of(copy.path(), files_of(copy.path()))); found != digest)
    throw Error(place(digest), "what was read has digest " + found + ", expected the artifact's name; `filo " +
                                   "checkpoints verify " + digest.substr(0, digits_shown) + "` says which file it is");
  if (const fs::path sums = copy.path() / "SHA256SUMS"; !fs::exists(sums))
    write_file_atomically(sums, sums_of(copy.path(), files_of(copy.path())));
  copy.commit();
}

void remove_artifact(const Workspace& workspace, const std::string& digest) {
  fs::rename(workspace.artifact_folder(digest), workspace.artifacts_folder() / (removed + digest));
  std::vector<fs::path> aside;  // also of one that was cut short
  for (const auto& entry : fs::directory_iterator(workspace.artifacts_folder()))
    if (entry.path().filename().string().starts_with(removed)) aside.push_back(entry.path());
  for (const fs::path& folder : aside) fs::remove_all(folder);
}

std::map<std::string, std::string> artifact_tags(const Workspace& workspace) {
  std::map<std::string, std::string> tags;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(workspace.tags_folder(), error)) {
    const std::string name = entry.path().stem().string();
    if (entry.path().extension() != ".json" || !is_plain_name(name)) continue;
    const Json tag = read_json(entry.path());  // one that cannot be read is not passed over: it may keep an artifact
    const std::string digest = text_of(tag, "checkpoint");
    if (!is_artifact_digest(digest))
      throw Error("checkpoints: " + entry.path().string() + ": checkpoint",
                  "found " + (tag.is_object() ? tag.value("checkpoint", Json()).dump() : tag.dump()) +
                      ", expected a digest of 64 hex digits");
    tags[name] = digest;
  }
  return tags;
}

void tag_artifact(const Workspace& workspace, const std::string& digest, const std::string& name) {
  const std::string where = "checkpoints: tag " + printable(name);
  if (!is_plain_name(name) || name.find_first_not_of("0123456789abcdef") == std::string::npos)
    throw UsageError(where,
                     "expected letters, digits, '.', '_' and '-', and not only what reads as digits of a digest");
  const auto tags = artifact_tags(workspace);
  const auto known = tags.find(name);
  if (known != tags.end() && known->second == digest) return;
  if (known != tags.end())
    throw UsageError(where, "is the name of " + known->second.substr(0, digits_shown) +
                                ", expected one that is free (`filo checkpoints tag " + name + " --remove` frees it)");
  fs::create_directories(workspace.tags_folder());
  write_json(workspace.tag_file(name), {{"checkpoint", digest}, {"time", wall_time_s()}});
}

void remove_tag(const Workspace& workspace, const std::string& name) {
  const auto tags = artifact_tags(workspace);
  if (!tags.contains(name)) {
    std::vector<std::string> names;
    for (const auto& tag : tags) names.push_back(tag.first);
    throw UsageError("checkpoints: tag " + printable(name),
                     "found none of this name, expected a tag" + did_you_mean(name, names));
  }
  remove_file_durably(workspace.tag_file(name));
}

std::string find_artifact(const Workspace& workspace, const std::string& text) {
  const auto tags = artifact_tags(workspace);
  const auto digests = artifact_digests(workspace);
  if (const auto tag = tags.find(text); tag != tags.end()) {
    if (std::ranges::binary_search(digests, tag->second)) return tag->second;
    throw Error("checkpoints: tag " + text, "names " + tag->second.substr(0, digits_shown) + ", which is not in " +
                                                workspace.artifacts_folder().string());
  }
  std::vector<std::string> found;
  for (const auto& digest : digests)
    if (!text.empty() && digest.starts_with(text)) found.push_back(digest);
  if (found.size() == 1) return found[0];
  const std::string where = "checkpoints: " + printable(text);
  if (found.size() > 1)
    throw UsageError(where, "found " + std::to_string(found.size()) + " checkpoints (" +
                                found[0].substr(0, digits_shown) + ", " + found[1].substr(0, digits_shown) +
                                (found.size() > 2 ? ", ..." : "") + "), expected enough digits for one");
  std::vector<std::string> names;
  for (const auto& tag : tags) names.push_back(tag.first);
  throw UsageError(where, "found none in " + workspace.artifacts_folder().string() +
                              ", expected a tag or the first digits of a digest (filo checkpoints list)" +
                              did_you_mean(text, names));
}

}  // namespace filo
