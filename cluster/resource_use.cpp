#include "cluster/resource_use.hpp"

#include <dlfcn.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <fstream>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

namespace filo {
namespace {

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

// A rank's part, as it travels.
struct Part {
  double cpu_s, memory_bytes, gpu_memory_bytes, gpu_use;  // gpu_use below 0: not known
};

// The parts of NVML's interface that are used here; the layouts are those of its version 1 structures.
struct Utilization {
  unsigned pid;
  unsigned long long time_us;
  unsigned streaming_multiprocessors, memory, encoder, decoder;  // percent
};
using Device = void*;
constexpr int success = 0;

class Nvml {
 public:
  explicit Nvml(const char* path) : library_(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
    find("nvmlInit_v2", init_);
    find("nvmlShutdown", shutdown_);
    find("nvmlDeviceGetCount_v2", count_);
    find("nvmlDeviceGetHandleByIndex_v2", handle_);
    find("nvmlDeviceGetProcessUtilization", utilization_);
    if (!complete_ || init_() != success) return;
    started_ = true;
    unsigned devices = 0;
    if (count_(&devices) != success) return;
    for (unsigned i = 0; i < devices; ++i)
      if (Device device = nullptr; handle_(i, &device) == success) devices_.push_back({device, 0});
  }
  ~Nvml() {
    if (started_) shutdown_();
    if (library_ != nullptr) dlclose(library_);
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  bool has_devices() const { return !devices_.empty(); }

  // This process's samples since the last call, of all devices: their number and sum, in percent.
  std::pair<std::size_t, double> samples(unsigned pid) {
    std::size_t number = 0;
    double sum = 0;
    for (auto& [device, seen] : devices_) {
      std::array<Utilization, 256> told{};
      unsigned count = told.size();
      if (utilization_(device, told.data(), &count, seen) != success) continue;
      for (const auto& sample : std::span(told).first(std::min<std::size_t>(count, told.size()))) {
        seen = std::max(seen, sample.time_us);
        if (sample.pid != pid) continue;
        ++number;
        sum += sample.streaming_multiprocessors;
      }
    }
    return {number, sum};
  }

 private:
  template <typename Function>
  void find(const char* name, Function& function) {
    void* symbol = library_ == nullptr ? nullptr : dlsym(library_, name);
    complete_ = complete_ && symbol != nullptr;
    std::memcpy(&function, &symbol, sizeof symbol);
  }

  void* library_;
  bool complete_ = true, started_ = false;
  int (*init_)() = nullptr;
  int (*shutdown_)() = nullptr;
  int (*count_)(unsigned*) = nullptr;
  int (*handle_)(unsigned, Device*) = nullptr;
  int (*utilization_)(Device, Utilization*, unsigned*, unsigned long long) = nullptr;
  std::vector<std::pair<Device, unsigned long long>> devices_;  // and the time of the latest sample
};

}  // namespace

ResourceUse resource_use_of_this_process() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return {.cpu_s = seconds(usage.ru_utime) + seconds(usage.ru_stime),
          .memory_bytes = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024,
          .gpu_memory_bytes = 0,
          .gpu_use = {}};
}

std::uint64_t resident_memory_bytes() {
  std::uint64_t all = 0, resident = 0;  // pages
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

ResourceUse resource_use_of_all(Communicator& host, const ResourceUse& mine) {
  const Part part{mine.cpu_s, static_cast<double>(mine.memory_bytes), static_cast<double>(mine.gpu_memory_bytes),
                  mine.gpu_use.value_or(-1)};
  const auto parts = host.gather_bytes(std::string(reinterpret_cast<const char*>(&part), sizeof part));
  if (parts.empty()) return mine;
  ResourceUse all;
  double gpu_sum = 0;
  int gpus = 0;
  for (const auto& bytes : parts) {
    Part one{};
    std::memcpy(&one, bytes.data(), std::min(bytes.size(), sizeof one));
    all.cpu_s += one.cpu_s;
    all.memory_bytes += static_cast<std::uint64_t>(one.memory_bytes);
    all.gpu_memory_bytes = std::max(all.gpu_memory_bytes, static_cast<std::uint64_t>(one.gpu_memory_bytes));
    if (one.gpu_use < 0) continue;
    gpu_sum += one.gpu_use;
    ++gpus;
  }
  if (gpus > 0) all.gpu_use = gpu_sum / gpus;
  return all;
}

struct GpuMeter::State {
  explicit State(const char* library) : nvml(library) {
    if (nvml.has_devices()) thread = std::jthread([this](const std::stop_token& stop) { run(stop); });
  }

  void run(const std::stop_token& stop) {
    std::unique_lock lock(mutex);
    while (!stop.stop_requested()) {
      const auto [more, sum] = nvml.samples(static_cast<unsigned>(getpid()));
      number += more;
      percent += sum;
      wake.wait_for(lock, stop, std::chrono::seconds(2), [] { return false; });
    }
  }

  Nvml nvml;
  mutable std::mutex mutex;
  std::condition_variable_any wake;
  std::size_t number = 0;
  double percent = 0;
  std::jthread thread;  // ends before what it uses
};

GpuMeter::GpuMeter(const char* library) : state_(std::make_unique<State>(library)) {}
GpuMeter::~GpuMeter() = default;

std::optional<double> GpuMeter::use() const {
  const std::lock_guard lock(state_->mutex);
  if (state_->number == 0) return std::nullopt;
  return state_->percent / static_cast<double>(state_->number) / 100;
}

}  // namespace filo
