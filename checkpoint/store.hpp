// Content-addressed files: artifacts/sha256/AB/ABCDEF... (the digest is the name, so equal files are kept once).
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace filo {

// Safe for several processes at once: a file appears under its digest whole, or not at all.
class ArtifactStore {
 public:
  explicit ArtifactStore(std::filesystem::path root);

  // Copies `file` in and returns its SHA-256 (64 hex digits). An artifact that is there already is not written again,
  // unless it is found damaged. Throws Error.
  std::string put(const std::filesystem::path& file);

  // Where the artifact is, or nullopt. Throws Error when `digest` is not 64 lower-case hex digits. Does not read the
  // file.
  std::optional<std::filesystem::path> get(const std::string& digest) const;

  // Whether the artifact is there and its bytes still have this digest. Reads the whole file.
  bool verify(const std::string& digest) const;

  // Where an artifact of this digest would be.
  std::filesystem::path path_of(const std::string& digest) const;

 private:
  std::filesystem::path root_;
};

}  // namespace filo
