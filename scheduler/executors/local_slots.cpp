#include "scheduler/executors/local_slots.hpp"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/files.hpp"
#include "base/log.hpp"
#include "settings/resources.hpp"
#include "workspace/claim.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

std::size_t gpus_of(const ResourceSettings& resources) {
  return static_cast<std::size_t>(resources.ranks) * static_cast<std::size_t>(resources.gpus);
}

}  // namespace

LocalSlots::LocalSlots(const Workspace& workspace, LocalCapacity capacity, Json claim)
    : workspace_(workspace), capacity_(std::move(capacity)), claim_(std::move(claim)) {}

LocalSlots::~LocalSlots() {
  std::error_code ignored;
  fs::remove(file(), ignored);
}

void LocalSlots::begin() {
  reserved_.clear();
  elsewhere_is_due_ = true;
}

std::vector<LocalUse> LocalSlots::used(const std::vector<LocalUse>& running) {
  if (std::exchange(elsewhere_is_due_, false)) read_elsewhere();
  std::vector<LocalUse> all = elsewhere_;
  all.insert(all.end(), running.begin(), running.end());
  return all;
}

bool LocalSlots::reserve(const ResourceSettings& wanted, const std::vector<LocalUse>& running) {
  long cores = 0;
  std::size_t gpus = 0;
  std::uint64_t memory = 0;
  const auto add = [&](const ResourceSettings& resources) {
    cores += static_cast<long>(resources.ranks) * resources.threads;
    gpus += gpus_of(resources);
    memory += memory_in_bytes(resources.memory);
  };
  const auto taken = used(running);
  for (const auto& use : taken) add(use.resources);
  for (const auto& resources : reserved_) add(resources);
  add(wanted);
  const bool alone = taken.empty() && reserved_.empty();
  if (!alone && (cores > capacity_.cores || memory > capacity_.memory_bytes || gpus > capacity_.gpus.size()))
    return false;
  reserved_.push_back(wanted);
  return true;
}

std::vector<std::vector<std::string>> LocalSlots::free_gpus(const std::vector<StartRequest>& requests,
                                                            const std::vector<LocalUse>& running) {
  std::vector<std::string> free = capacity_.gpus;
  for (const auto& use : used(running))
    std::erase_if(free, [&](const std::string& gpu) {
      return std::find(use.gpus.begin(), use.gpus.end(), gpu) != use.gpus.end();
    });
  std::vector<std::vector<std::string>> given;
  for (const auto& request : requests) {
    given.emplace_back();
    const auto count = static_cast<std::ptrdiff_t>(gpus_of(request.resources));
    if (count > std::ssize(free)) continue;
    given.back().assign(free.begin(), free.begin() + count);
    free.erase(free.begin(), free.begin() + count);
  }
  return given;
}

fs::path LocalSlots::file() const {
  const std::string name = claim_.at("host").get<std::string>() + "-" + std::to_string(getpid()) + ".json";
  return workspace_.local_uses_folder() / name;
}

void LocalSlots::publish(const std::vector<LocalUse>& running) const {
  Json list = Json::array();
  for (const auto& use : running) list.push_back({{"resources", to_json(use.resources)}, {"gpus", use.gpus}});
  std::error_code ignored;
  if (list.empty()) {
    fs::remove(file(), ignored);
    return;
  }
  Json content = claim_;
  content["uses"] = std::move(list);
  fs::create_directories(file().parent_path(), ignored);
  write_json(file(), content);
}

void LocalSlots::read_elsewhere() {
  elsewhere_.clear();
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(workspace_.local_uses_folder(), error)) {
    const std::string name = entry.path().filename().string();
    if (name.front() == '.' || entry.path() == file()) continue;
    try {
      const Json other = read_json(entry.path());
      if (other.at("host") != claim_.at("host")) continue;
      if (!claim_holds(other, [] { return 0.0; })) {
        fs::remove(entry.path(), error);
        continue;
      }
      for (const auto& use : other.at("uses"))
        elsewhere_.push_back({resource_settings_from_json(use.at("resources"), name), use.at("gpus")});
    } catch (const std::exception& problem) {  // gone meanwhile, or of another version: its room is not known
      log_warning("scheduler: " + entry.path().string() + ": " + problem.what());
    }
  }
}

}  // namespace filo
