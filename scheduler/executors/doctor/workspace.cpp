#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <chrono>
#include <cmath>
#include <thread>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/host.hpp"
#include "base/text.hpp"
#include "scheduler/executors/doctor/tools.hpp"
#include "workspace/file_clock.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
using Verdict = Check::Verdict;
using Clock = std::chrono::steady_clock;

constexpr double slow_fsync_s = 0.2;
constexpr double least_free_gigabytes = 10;

Check check_locks(const fs::path& folder) {
  const fs::path path = folder / "lock";
  const FileDescriptor file = open_file(path, O_RDWR | O_CREAT);
  if (flock(file.get(), LOCK_EX | LOCK_NB) != 0)
    return {"file locks", Verdict::bad, "flock fails on this file system",
            "mount it with locks (NFS: without nolock, Lustre: with flock), or use another workspace"};
  const std::vector<std::string> other = {"flock", "--nonblock", path.string(), "true"};
  const CommandResult while_held = try_to_run(other);
  flock(file.get(), LOCK_UN);
  const CommandResult when_free = try_to_run(other);
  if (while_held.ok || !when_free.ok)
    return {"file locks", Verdict::bad,
            while_held.ok ? "two processes held one lock at once" : "a free lock is not given: " + when_free.output,
            "mount the file system with locks (NFS: without nolock, Lustre: with flock), or use another workspace"};
  return {"file locks", Verdict::good, "one process at a time holds a lock"};
}

Check check_atomic_writes(const fs::path& folder) {
  const fs::path path = folder / "file";
  write_file_atomically(path, "one");
  const auto start = Clock::now();
  constexpr int writes = 5;
  for (int i = 0; i < writes; ++i) write_file_atomically(path, "two");
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count() / writes;
  const bool again = create_file_exclusively(path, "three");
  const bool made_twice = mkdir((folder / "a").c_str(), 0755) != 0 || mkdir((folder / "a").c_str(), 0755) == 0;
  if (read_file(path) != "two" || again || made_twice)
    return {"atomic writes", Verdict::bad, "rename, link or mkdir is not atomic here",
            "use a workspace on another file system"};
  const std::string found =
      "rename, link and mkdir are atomic; a durable write takes " + formatted(seconds * 1000, "%.1f ms");
  if (seconds > slow_fsync_s)
    return {"atomic writes", Verdict::warning, found, "a pass over many stages will be slow: use a faster file system"};
  return {"atomic writes", Verdict::good, found};
}

Check check_clock(const fs::path& folder) {
  const auto server = time_of_touch(folder / "clock");
  if (!server) throw Error("doctor: " + folder.string(), "a file in it cannot be touched");
  const double here = wall_time_s();
  const double skew = std::abs(here - *server);
  const std::string found = "the file server's clock is " + formatted(skew, "%.1f s") + " off this machine's";
  if (skew > skew_warning_s)
    return {"clock", Verdict::warning, found, "set both by NTP: times in logs and events are by the hosts' own clocks"};
  return {"clock", Verdict::good, found};
}

// Ages of claims, and what has changed since it was read, are told by them.
Check check_times_of_change(const fs::path& folder) {
  const auto first = time_of_touch(folder / "times");
  std::this_thread::sleep_for(std::chrono::milliseconds(1200));
  const auto second = time_of_touch(folder / "times");
  const double passed = first && second ? *second - *first : 0;
  if (passed < 0.1 || passed > 10)
    return {"times of change", Verdict::bad,
            "1.2 s later a file was touched, and is " + formatted(passed, "%.1f s") + " newer",
            "this file system does not keep times of change: use another workspace"};
  return {"times of change", Verdict::good, "they follow the file server's clock"};
}

Check check_space(const fs::path& folder) {
  struct statvfs status {};
  if (statvfs(folder.c_str(), &status) != 0)
    return {"free space", Verdict::warning, "the file system does not tell", "see that there is room"};
  const double gigabytes = static_cast<double>(status.f_bavail) * static_cast<double>(status.f_frsize) / 1e9;
  const std::string found = formatted(gigabytes, "%.1f GB free");
  if (status.f_files > 0 && status.f_favail < 100000)
    return {"free space", Verdict::warning, found + ", " + std::to_string(status.f_favail) + " inodes free",
            "each stage takes some 20 files: remove old workspaces, or ask for more inodes"};
  if (gigabytes < 1) return {"free space", Verdict::bad, found, "free some: a full disk stops every stage"};
  if (gigabytes < least_free_gigabytes)
    return {"free space", Verdict::warning, found,
            "features of MVTec-AD and VisA at the paper's size take 76 GB; `filo plan FILE` estimates an experiment's"};
  return {"free space", Verdict::good, found};
}

}  // namespace

std::vector<Check> check_workspace(const fs::path& workspace) {
  try {
    fs::create_directories(workspace);
    const TemporaryFolder folder(workspace);
    return {check_locks(folder.path()), check_atomic_writes(folder.path()), check_clock(folder.path()),
            check_times_of_change(folder.path()), check_space(folder.path())};
  } catch (const std::exception& error) {
    return {{"workspace", Verdict::bad, error.what(),
             "choose a folder that you may write: --workspace or $FILO_WORKSPACE"}};
  }
}

}  // namespace filo
