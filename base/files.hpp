// Files that are never half written: temp file + fsync + rename + fsync of the folder.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace filo {

// Closes the descriptor when it goes out of scope; movable, not copyable.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release();
  void reset();

 private:
  int fd_ = -1;
};

// The whole file. Throws Error naming the path and the system's reason.
std::string read_file(const std::filesystem::path& path);

// After return, `path` holds exactly `bytes`, durably; when it throws (full disk, no permission) `path` is as it was
// before. Safe when several processes write the same path: the last rename wins, readers see one or the other.
// `mode`: permissions of the new file before the umask.
void write_file_atomically(const std::filesystem::path& path, std::string_view bytes, int mode = 0644);
void write_file_atomically(const std::filesystem::path& path, std::span<const std::byte> bytes);
// The pieces one after another, without a copy of the whole.
void write_file_atomically(const std::filesystem::path& path, std::span<const std::string_view> pieces);

// Like write_file_atomically, but an existing `path` stays: returns false, and nothing changed. (link(2) is the
// test-and-set.)
bool create_file_exclusively(const std::filesystem::path& path, std::string_view bytes, int mode = 0644);

// Gone durably after return; nothing happens where there is none. Throws Error.
void remove_file_durably(const std::filesystem::path& path);

// fsync of a file or folder; throws Error.
void sync_path(const std::filesystem::path& path);

// `from`, a file or a folder, takes the place of `to`, durably: in one step where the file system can exchange two
// names (and for files everywhere); else a folder at `to` is set aside first, for a moment in which there is none. What
// stood there is removed. Both on one file system. Throws Error.
void replace_path(const std::filesystem::path& from, const std::filesystem::path& to);

// A folder that appears whole or not at all: fill `path()`, then commit(). Without commit() the destructor removes it.
class AtomicFolder {
 public:
  // `final_path`'s parent is created when missing.
  explicit AtomicFolder(std::filesystem::path final_path);
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  ~AtomicFolder();

  const std::filesystem::path& path() const { return temporary_; }

  // fsyncs every file, then replace_path().
  void commit();

 private:
  std::filesystem::path final_;
  std::filesystem::path temporary_;
  bool committed_ = false;
};

// Opens with O_CLOEXEC; throws Error naming path and reason.
FileDescriptor open_file(const std::filesystem::path& path, int flags, int mode = 0644);

// Writes all of it, through EINTR and short writes; throws Error naming `path`.
void write_all(int fd, std::string_view bytes, const std::filesystem::path& path);

}  // namespace filo
