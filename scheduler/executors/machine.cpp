#include "scheduler/executors/machine.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "base/error.hpp"
#include "base/host.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

std::uint64_t memory_limit() {
  const auto pages = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES));
  std::uint64_t bytes = pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    const std::string text = kernel_line(path);
    if (!text.empty() && text.size() < 19 && text.find_first_not_of("0123456789") == std::string::npos)
      bytes = std::min<std::uint64_t>(bytes, std::stoull(text));
  }
  return bytes;
}

// As CUDA reads the variable: names up to the first that is none ("-1").
std::vector<std::string> visible_gpus() {
  std::vector<std::string> names;
  std::error_code error;
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  if (visible == nullptr) {
    while (fs::exists("/dev/nvidia" + std::to_string(names.size()), error))
      names.push_back(std::to_string(names.size()));
    return names;
  }
  std::istringstream list(visible);
  for (std::string name; std::getline(list, name, ',') && !name.empty() && name.front() != '-';) names.push_back(name);
  return names;
}

}  // namespace

LocalCapacity this_machine() {
  LocalCapacity capacity;
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) capacity.cores = std::max(1, CPU_COUNT(&cores));
  capacity.memory_bytes = memory_limit();
  capacity.gpus = visible_gpus();
  return capacity;
}

fs::path find_worker() {
  fs::path worker;
  if (const char* chosen = std::getenv("FILO_WORKER"); chosen != nullptr && *chosen != '\0') {
    worker = fs::absolute(chosen);
  } else {
    std::error_code error;
    worker = fs::read_symlink("/proc/self/exe", error).parent_path() / "filo-worker";
  }
  if (access(worker.c_str(), X_OK) != 0)
    throw Error("scheduler: " + worker.string(),
                "found no such program, expected filo-worker beside filo (make build) or where FILO_WORKER says");
  return worker;
}

}  // namespace filo
