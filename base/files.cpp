#include "base/files.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/error.hpp"
#include "base/host.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, std::string_view action) {
  const int error = errno;
  throw Error("files: " + path.string(), std::string(action) + ": " + std::strerror(error));
}

fs::path temporary_beside(const fs::path& path) {
  static std::atomic<unsigned> counter{0};
  // The host: two nodes may write the same path on a shared file system.
  return path.parent_path() / ("." + path.filename().string() + "." + host_name() + "." + std::to_string(getpid()) +
                               "." + std::to_string(counter++) + ".tmp");
}

fs::path parent_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

// `told`: the path that an error names.
FileDescriptor open_as(const fs::path& path, int flags, int mode, const fs::path& told) {
  int fd;
  do fd = open(path.c_str(), flags | O_CLOEXEC, mode);
  while (fd < 0 && errno == EINTR);
  if (fd < 0) fail(told, "cannot be opened");
  return FileDescriptor(fd);
}

// A durable temporary file with the pieces one after another, removed unless released. Errors name the final path.
class TemporaryFile {
 public:
  TemporaryFile(const fs::path& final_path, std::span<const std::string_view> pieces, int mode = 0644)
      : path_(temporary_beside(final_path)) {
    FileDescriptor file = open_as(path_, O_WRONLY | O_CREAT | O_EXCL | O_TRUNC, mode, final_path);
    try {
      for (const std::string_view piece : pieces) write_all(file.get(), piece, final_path);
      if (fsync(file.get()) != 0) fail(final_path, "fsync failed");
    } catch (...) {
      unlink(path_.c_str());
      throw;
    }
  }
  ~TemporaryFile() {
    if (!path_.empty()) unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const fs::path& path() const { return path_; }
  void release() { path_.clear(); }

 private:
  fs::path path_;
};

// Both paths change places in one step. False where one is not there, or the file system cannot (NFS, older kernels).
bool exchange(const fs::path& a, const fs::path& b) {
  return syscall(SYS_renameat2, AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
}

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = other.release();
  }
  return *this;
}

int FileDescriptor::release() { return std::exchange(fd_, -1); }

void FileDescriptor::reset() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

FileDescriptor open_file(const fs::path& path, int flags, int mode) { return open_as(path, flags, mode, path); }

void write_all(int fd, std::string_view bytes, const fs::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      fail(path, "write failed");
    }
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
}

std::string read_file(const fs::path& path) {
  const FileDescriptor file = open_file(path, O_RDONLY);
  struct stat status {};
  if (fstat(file.get(), &status) != 0) fail(path, "cannot be examined");
  if (S_ISDIR(status.st_mode)) {
    errno = EISDIR;
    fail(path, "cannot be read");
  }
  std::string bytes;
  bytes.resize(static_cast<std::size_t>(status.st_size));
  std::size_t used = 0;
  for (;;) {  // the size is a hint: the file may grow, and /proc files say 0
    if (used == bytes.size()) bytes.resize(bytes.size() + 4096);
    const ssize_t got = read(file.get(), bytes.data() + used, bytes.size() - used);
    if (got < 0) {
      if (errno == EINTR) continue;
      fail(path, "read failed");
    }
    if (got == 0) break;
    used += static_cast<std::size_t>(got);
  }
  bytes.resize(used);
  return bytes;
}

void remove_file_durably(const fs::path& path) {
  if (unlink(path.c_str()) == 0)
    sync_path(parent_of(path));
  else if (errno != ENOENT)
    throw Error("file: " + path.string(), std::string("cannot be removed: ") + std::strerror(errno));
}

void sync_path(const fs::path& path) {
  const FileDescriptor file = open_file(path, O_RDONLY);
  if (fsync(file.get()) != 0 && errno != EINVAL) fail(path, "fsync failed");  // EINVAL: a file system without it
}

namespace {

void rename_into_place(TemporaryFile& temporary, const fs::path& path) {
  if (rename(temporary.path().c_str(), path.c_str()) != 0) fail(path, "rename failed");
  temporary.release();
  sync_path(parent_of(path));
}

}  // namespace

void write_file_atomically(const fs::path& path, std::string_view bytes, int mode) {
  TemporaryFile temporary(path, std::span<const std::string_view>(&bytes, 1), mode);
  rename_into_place(temporary, path);
}

void write_file_atomically(const fs::path& path, std::span<const std::string_view> pieces) {
  TemporaryFile temporary(path, pieces);
  rename_into_place(temporary, path);
}

void write_file_atomically(const fs::path& path, std::span<const std::byte> bytes) {
  write_file_atomically(path, std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

bool create_file_exclusively(const fs::path& path, std::string_view bytes, int mode) {
  const TemporaryFile temporary(path, std::span<const std::string_view>(&bytes, 1), mode);
  if (link(temporary.path().c_str(), path.c_str()) != 0) {
    if (errno == EEXIST) return false;
    fail(path, "link failed");
  }
  sync_path(parent_of(path));
  return true;
}

AtomicFolder::AtomicFolder(fs::path final_path) : final_(std::move(final_path)), temporary_(temporary_beside(final_)) {
  std::error_code error;
  fs::create_directories(parent_of(final_), error);
  if (error) throw Error("files: " + parent_of(final_).string(), "folder cannot be created: " + error.message());
  if (mkdir(temporary_.c_str(), 0755) != 0) fail(final_, "folder cannot be created");
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(temporary_, ignored);
}

void AtomicFolder::commit() {
  for (const auto& entry : fs::recursive_directory_iterator(temporary_)) sync_path(entry.path());
  sync_path(temporary_);
  replace_path(temporary_, final_);
  committed_ = true;
}

void replace_path(const fs::path& from, const fs::path& to) {
  std::error_code ignored;
  fs::path aside;
  const bool is_folder = fs::is_directory(to, ignored);
  if (is_folder && exchange(from, to)) {
    aside = from;
  } else {
    if (is_folder) {
      aside = temporary_beside(to);
      if (rename(to.c_str(), aside.c_str()) != 0) fail(to, "rename failed");
    }
    if (rename(from.c_str(), to.c_str()) != 0) fail(to, "rename failed");
  }
  sync_path(parent_of(to));
  if (!aside.empty()) fs::remove_all(aside, ignored);
}

}  // namespace filo
