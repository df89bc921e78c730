// LD_PRELOAD: this host sees the files below LAG_ROOT as an NFS client does. What was looked for in vain stays away for
// LAG_S seconds, and what was seen keeps its attributes for as long, whatever other hosts do meanwhile; opening a file
// asks its server (close-to-open), and what this host changes it sees at once. LAG_HOST names the file that all
// processes of one host share what they remember in. Listings are fresh: what they show is looked for anew.
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>
#include <utility>

namespace {

constexpr std::size_t slots = 1 << 16;

struct Slot {
  std::uint64_t path = 0;  // hash; 0: empty
  double since = 0;        // seconds, of CLOCK_MONOTONIC: no fake clock moves it
  bool missing = false;
  struct stat status {};
};

struct Memory {
  pthread_mutex_t mutex{};
  int ready = 0;
  Slot slot[slots];
};

template <typename Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

double now() {
  timespec time{};
  static const auto clock = real<int(clockid_t, timespec*)>("clock_gettime");
  clock(CLOCK_MONOTONIC_RAW, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

class Host {
 public:
  static Host* get() {
    static Host* host = make();
    return host;
  }

  // What of it is below LAG_ROOT, absolute; "" for all else.
  std::string inside(int folder, const char* path) const {
    if (path == nullptr || *path == '\0') return "";
    std::string whole = path;
    if (whole[0] != '/') {
      char base[PATH_MAX];
      ssize_t length = 0;
      if (folder == AT_FDCWD) {
        if (getcwd(base, sizeof base) == nullptr) return "";
        length = static_cast<ssize_t>(std::strlen(base));
      } else {
        length = readlink(("/proc/self/fd/" + std::to_string(folder)).c_str(), base, sizeof base);
      }
      if (length <= 0) return "";
      whole = std::string(base, static_cast<std::size_t>(length)) + "/" + whole;
    }
    while (whole.size() > 1 && whole.back() == '/') whole.pop_back();
    return whole.starts_with(root_) && whole.size() > root_.size() && whole[root_.size()] == '/' ? whole : "";
  }

  // Whether the path, or a folder above it, was looked for in vain a moment ago.
  bool is_missing(const std::string& path) {
    const Lock lock(*this);
    for (std::size_t end = root_.size(); end != std::string::npos;) {
      end = path.find('/', end + 1);
      const Slot* known = find(std::string_view(path).substr(0, end));
      if (known != nullptr && known->missing) return true;
    }
    return false;
  }
  // Remembers the topmost part of the path that is not there.
  void note_missing(const std::string& path) {
    static const auto look = real<int(const char*, int)>("access");
    for (std::size_t end = root_.size(); end != std::string::npos;) {
      end = path.find('/', end + 1);
      const std::string part = path.substr(0, end);
      if (look(part.c_str(), F_OK) == 0) continue;
      const Lock lock(*this);
      Slot& slot = place(part);
      slot = {.path = hash(part), .since = now(), .missing = true, .status = {}};
      return;
    }
  }
  void forget(const std::string& path) {
    const Lock lock(*this);
    Slot& slot = place(path);
    if (slot.path == hash(path)) slot.path = 0;
  }
  bool known_status(const std::string& path, struct stat* status) {
    const Lock lock(*this);
    const Slot* known = find(path);
    if (known == nullptr || known->missing) return false;
    *status = known->status;
    return true;
  }
  void note_status(const std::string& path, const struct stat& status) {
    if (!S_ISREG(status.st_mode)) return;
    const Lock lock(*this);
    place(path) = {.path = hash(path), .since = now(), .missing = false, .status = status};
  }

 private:
  class Lock {
   public:
    explicit Lock(Host& host) : mutex_(&host.memory_->mutex) {
      if (pthread_mutex_lock(mutex_) == EOWNERDEAD) pthread_mutex_consistent(mutex_);  // kill -9
    }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
    ~Lock() { pthread_mutex_unlock(mutex_); }

   private:
    pthread_mutex_t* mutex_;
  };

  static Host* make() {
    const char* root = std::getenv("LAG_ROOT");
    const char* file = std::getenv("LAG_HOST");
    const char* seconds = std::getenv("LAG_S");
    if (root == nullptr || file == nullptr || seconds == nullptr) return nullptr;
    static const auto open_file = real<int(const char*, int, ...)>("open");
    const int memory = open_file(file, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (memory < 0 || ftruncate(memory, sizeof(Memory)) != 0) return nullptr;
    void* mapped = mmap(nullptr, sizeof(Memory), PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    close(memory);
    if (mapped == MAP_FAILED) return nullptr;
    auto* host = new Host;  // until the process ends
    host->root_ = root;
    host->seconds_ = std::atof(seconds);
    host->memory_ = static_cast<Memory*>(mapped);
    if (__sync_bool_compare_and_swap(&host->memory_->ready, 0, 1)) {
      pthread_mutexattr_t shared;
      pthread_mutexattr_init(&shared);
      pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
      pthread_mutexattr_setrobust(&shared, PTHREAD_MUTEX_ROBUST);
      pthread_mutex_init(&host->memory_->mutex, &shared);
      __sync_synchronize();
      host->memory_->ready = 2;
    }
    while (*const_cast<volatile int*>(&host->memory_->ready) != 2) usleep(100);
    return host;
  }

  static std::uint64_t hash(std::string_view path) {
    std::uint64_t value = 0xcbf29ce484222325u;
    for (const char byte : path) value = (value ^ static_cast<unsigned char>(byte)) * 0x100000001b3u;
    return value | 1;
  }
  Slot& place(std::string_view path) const { return memory_->slot[(hash(path) >> 16) % slots]; }
  const Slot* find(std::string_view path) const {
    const Slot& slot = place(path);
    return slot.path == hash(path) && now() - slot.since < seconds_ ? &slot : nullptr;
  }

  std::string root_;
  double seconds_ = 0;
  Memory* memory_ = nullptr;
};

// A path below LAG_ROOT; without a host for all else.
struct Inside {
  Host* host = nullptr;
  std::string path{};
};

Inside inside(int folder, const char* path) {
  Host* host = Host::get();
  if (host == nullptr) return {};
  std::string whole = host->inside(folder, path);
  return whole.empty() ? Inside() : Inside{host, std::move(whole)};
}

// A look-up by `look`: what this host remembers as missing is missing.
template <typename Look>
int look_up(const Inside& at, const Look& look) {
  if (at.host == nullptr) return look();
  if (at.host->is_missing(at.path)) {
    errno = ENOENT;
    return -1;
  }
  const int result = look();
  if (result < 0 && errno == ENOENT) {
    at.host->note_missing(at.path);
    errno = ENOENT;
  }
  return result;
}

template <typename Look>
int look_at(int folder, const char* path, struct stat* status, const Look& look) {
  const Inside at = inside(folder, path);
  if (at.host != nullptr && at.host->known_status(at.path, status)) return 0;
  const int result = look_up(at, look);
  if (result == 0 && at.host != nullptr) at.host->note_status(at.path, *status);
  return result;
}

// A change by this host, or a file's opening, which asks the server: what was remembered of it is void.
template <typename Change>
int change(const Inside& at, const Change& make) {
  const int result = make();
  const int error = errno;
  if (at.host != nullptr) at.host->forget(at.path);
  errno = error;
  return result;
}

template <typename Open>
int open_as(int folder, const char* path, int flags, const Open& open) {
  const Inside at = inside(folder, path);
  if ((flags & O_CREAT) != 0) return change(at, open);
  const int file = look_up(at, open);
  return file < 0 ? file : change(at, [&] { return file; });
}

int mode_of(int flags, va_list arguments) { return (flags & O_CREAT) != 0 ? va_arg(arguments, int) : 0; }

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const int mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_as(AT_FDCWD, path, flags, [&] { return real<int(const char*, int, ...)>("open")(path, flags, mode); });
}
int openat(int folder, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const int mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_as(folder, path, flags,
                 [&] { return real<int(int, const char*, int, ...)>("openat")(folder, path, flags, mode); });
}
FILE* fopen(const char* path, const char* mode) {
  FILE* stream = nullptr;
  open_as(AT_FDCWD, path, *mode == 'r' ? O_RDONLY : O_CREAT, [&] {
    stream = real<FILE*(const char*, const char*)>("fopen")(path, mode);
    return stream != nullptr ? 0 : -1;
  });
  return stream;
}
// On this architecture the 64-bit names are the same functions, and structures.
int open64(const char* path, int flags, ...) __attribute__((alias("open")));
int openat64(int folder, const char* path, int flags, ...) __attribute__((alias("openat")));
FILE* fopen64(const char* path, const char* mode) __attribute__((alias("fopen")));

int stat(const char* path, struct stat* status) {
  return look_at(AT_FDCWD, path, status, [&] { return real<int(const char*, struct stat*)>("stat")(path, status); });
}
int lstat(const char* path, struct stat* status) {
  return look_at(AT_FDCWD, path, status, [&] { return real<int(const char*, struct stat*)>("lstat")(path, status); });
}
int fstatat(int folder, const char* path, struct stat* status, int flags) {
  return look_at(folder, path, status, [&] {
    return real<int(int, const char*, struct stat*, int)>("fstatat")(folder, path, status, flags);
  });
}
int stat64(const char* path, struct stat64* status) { return stat(path, reinterpret_cast<struct stat*>(status)); }
int lstat64(const char* path, struct stat64* status) { return lstat(path, reinterpret_cast<struct stat*>(status)); }
int fstatat64(int folder, const char* path, struct stat64* status, int flags) {
  return fstatat(folder, path, reinterpret_cast<struct stat*>(status), flags);
}
int statx(int folder, const char* path, int flags, unsigned mask, struct statx* status) {
  return look_up(inside(folder, path), [&] {
    return real<int(int, const char*, int, unsigned, struct statx*)>("statx")(folder, path, flags, mask, status);
  });
}
int access(const char* path, int mode) {
  return look_up(inside(AT_FDCWD, path), [&] { return real<int(const char*, int)>("access")(path, mode); });
}
int faccessat(int folder, const char* path, int mode, int flags) {
  return look_up(inside(folder, path),
                 [&] { return real<int(int, const char*, int, int)>("faccessat")(folder, path, mode, flags); });
}

int mkdir(const char* path, mode_t mode) {
  return change(inside(AT_FDCWD, path), [&] { return real<int(const char*, mode_t)>("mkdir")(path, mode); });
}
int link(const char* from, const char* to) {
  return change(inside(AT_FDCWD, to), [&] { return real<int(const char*, const char*)>("link")(from, to); });
}
int rename(const char* from, const char* to) {
  change(inside(AT_FDCWD, from), [] { return 0; });
  return change(inside(AT_FDCWD, to), [&] { return real<int(const char*, const char*)>("rename")(from, to); });
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
  return change(inside(to_folder, to), [&] {
    return real<int(int, const char*, int, const char*, unsigned)>("renameat2")(from_folder, from, to_folder, to,
                                                                                flags);
  });
}
int unlink(const char* path) {
  return change(inside(AT_FDCWD, path), [&] { return real<int(const char*)>("unlink")(path); });
}

struct dirent* readdir(DIR* folder) {
  struct dirent* entry = real<struct dirent*(DIR*)>("readdir")(folder);
  if (entry == nullptr) return entry;
  if (const Inside at = inside(dirfd(folder), entry->d_name); at.host != nullptr && at.host->is_missing(at.path))
    at.host->forget(at.path);
  return entry;
}
struct dirent64* readdir64(DIR* folder) {
  return reinterpret_cast<struct dirent64*>(readdir(folder));
}

}  // extern "C"
