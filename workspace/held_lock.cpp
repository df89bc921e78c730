#include "workspace/held_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/error.hpp"
#include "base/host.hpp"
#include "base/json.hpp"
#include "base/log.hpp"
#include "base/utf8.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
constexpr auto silent = std::chrono::seconds(2);
constexpr auto between_tries = std::chrono::milliseconds(20);

bool try_lock(int file, int operation, const fs::path& path) {
  while (flock(file, operation) != 0) {
    if (errno == EWOULDBLOCK) return false;
    if (errno != EINTR)
      throw Error("workspace: " + path.string(), std::string("cannot be locked: ") + std::strerror(errno));
  }
  return true;
}

std::string program() {
  std::string line = read_file("/proc/self/cmdline");
  for (char& c : line)
    if (c == '\0') c = ' ';
  return printable(line.substr(0, 200));
}

std::string holder(const fs::path& path) {
  const auto json = read_json_if_sound(path);
  if (!json || !json->is_object()) return "held by another process";
  const double held_s = wall_time_s() - number_of(*json, "since");
  return "held for " + std::to_string(static_cast<long>(std::max(0.0, held_s))) + " s by process " +
         json->value("pid", Json()).dump() + " on " + text_of(*json, "host", "another host") + " (" +
         text_of(*json, "program") + ")";
}

void say_who_holds(const FileDescriptor& file, const fs::path& path) {
  const std::string text =
      Json({{"host", host_name()}, {"pid", getpid()}, {"program", program()}, {"since", wall_time_s()}}).dump() + "\n";
  if (ftruncate(file.get(), 0) != 0 || pwrite(file.get(), text.data(), text.size(), 0) < 0)
    log_warning("workspace: " + path.string() + ": cannot say who holds it: " + std::strerror(errno));
}

}  // namespace

FileDescriptor held_lock(const fs::path& path) {
  FileDescriptor file = open_file(path, O_RDWR | O_CREAT);
  const auto begun = std::chrono::steady_clock::now();
  while (!try_lock(file.get(), LOCK_EX | LOCK_NB, path)) {
    if (std::chrono::steady_clock::now() - begun < silent) {
      std::this_thread::sleep_for(between_tries);
      continue;
    }
    log_info("waiting for " + path.string() + ", " + holder(path));
    try_lock(file.get(), LOCK_EX, path);
    break;
  }
  say_who_holds(file, path);
  return file;
}

LockAttempt try_held_lock(const fs::path& path) {
  FileDescriptor file = open_file(path, O_RDWR | O_CREAT);
  if (!try_lock(file.get(), LOCK_EX | LOCK_NB, path)) return {.lock = {}, .holder = holder(path)};
  say_who_holds(file, path);
  return {.lock = std::move(file), .holder = {}};
}

}  // namespace filo
