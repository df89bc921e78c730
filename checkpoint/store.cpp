#include "checkpoint/store.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"
#include "base/log.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw Error("store: " + folder.string(), "folder cannot be created: " + error.message());
}

// Copies and hashes in one pass, so that the digest is of the bytes that were stored even when the file is being
// changed.
std::string copy_hashing(const fs::path& from, const fs::path& to) {
  const FileDescriptor source = open_file(from, O_RDONLY);
  const FileDescriptor target = open_file(to, O_WRONLY | O_CREAT | O_EXCL);
  Sha256 hash;
  std::vector<char> buffer(1 << 20);
  for (;;) {
    const ssize_t got = read(source.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error("store: " + from.string(), std::string("read failed: ") + std::strerror(errno));
    if (got == 0) break;
    const std::string_view bytes(buffer.data(), static_cast<std::size_t>(got));
    hash.update(bytes);
    write_all(target.get(), bytes, to);
  }
  if (fsync(target.get()) != 0)
    throw Error("store: " + to.string(), std::string("fsync failed: ") + std::strerror(errno));
  return hash.hex();
}

class TemporaryPath {
 public:
  explicit TemporaryPath(const fs::path& folder) {
    static std::atomic<unsigned> counter{0};
    char host[64] = {};
    gethostname(host, sizeof host - 1);
    path_ = folder /
            (std::string(".put.") + host + "." + std::to_string(getpid()) + "." + std::to_string(counter++) + ".tmp");
  }
  ~TemporaryPath() { unlink(path_.c_str()); }
  TemporaryPath(const TemporaryPath&) = delete;
  TemporaryPath& operator=(const TemporaryPath&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

}  // namespace

ArtifactStore::ArtifactStore(fs::path root) : root_(std::move(root)) {}

fs::path ArtifactStore::path_of(const std::string& digest) const {
  const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  if (digest.size() != 64 || !std::all_of(digest.begin(), digest.end(), is_hex))
    throw Error("store: " + root_.string(), "digest found: '" + digest + "', expected 64 lower-case hex digits");
  return root_ / "sha256" / digest.substr(0, 2) / digest;
}

std::string ArtifactStore::put(const fs::path& file) {
  make_folder(root_);
  const TemporaryPath temporary(root_);
  const std::string digest = copy_hashing(file, temporary.path());
  const fs::path target = path_of(digest);
  if (fs::exists(target)) {
    if (verify(digest)) return digest;
    log_warning("store: " + target.string() + ": damaged, written anew");
  }
  make_folder(target.parent_path());
  if (rename(temporary.path().c_str(), target.c_str()) != 0)
    throw Error("store: " + target.string(), std::string("rename failed: ") + std::strerror(errno));
  sync_path(target.parent_path());
  sync_path(target.parent_path().parent_path());
  return digest;
}

std::optional<fs::path> ArtifactStore::get(const std::string& digest) const {
  const fs::path path = path_of(digest);
  if (!fs::is_regular_file(path)) return std::nullopt;
  return path;
}

bool ArtifactStore::verify(const std::string& digest) const {
  const auto path = get(digest);
  return path && sha256_hex_of_file(*path) == digest;
}

}  // namespace filo
