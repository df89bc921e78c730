#include "scheduler/executors/slurm_records.hpp"

#include <sys/stat.h>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/log.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> record_files(const Workspace& workspace) {
  std::vector<fs::path> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(workspace.slurm_batches_folder(), error)) {
    const std::string file = entry.path().filename().string();
    if (file.front() != '.' && file.ends_with(".json")) files.push_back(entry.path());
  }
  return files;
}

// Of this cluster; nothing (and a warning) when it is broken.
std::optional<SlurmBatch> read_record(const fs::path& file, const std::string& cluster) {
  try {
    SlurmBatch batch = slurm_batch_from_json(read_json(file), file.string());
    if (batch.cluster == cluster && batch.name == file.stem().string()) return batch;
  } catch (const Error& problem) {
    log_warning(problem.what());
  }
  return std::nullopt;
}

std::optional<std::pair<std::uint64_t, std::int64_t>> version_of(const fs::path& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return std::nullopt;
  return std::make_pair(static_cast<std::uint64_t>(status.st_ino),
                        static_cast<std::int64_t>(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec);
}

}  // namespace

SlurmRecords::SlurmRecords(const Workspace& workspace, std::string cluster)
    : workspace_(workspace), cluster_(std::move(cluster)) {
  std::error_code error;
  fs::create_directories(workspace_.slurm_batches_folder(), error);
  if (error)
    throw UsageError("slurm: " + workspace_.slurm_folder().string(), "folder cannot be made: " + error.message());
}

fs::path SlurmRecords::file(const std::string& batch) const {
  return workspace_.slurm_batches_folder() / (batch + ".json");
}

fs::path SlurmRecords::script(const std::string& batch) const {
  return workspace_.slurm_batches_folder() / (batch + ".sh");
}

void SlurmRecords::load() {
  std::set<std::string> present;
  for (const auto& path : record_files(workspace_)) {
    const std::string name = path.stem().string();
    const auto version = version_of(path);
    if (!version) continue;
    present.insert(name);
    const auto known = records_.find(name);
    if (known != records_.end() && known->second.version == *version) continue;
    auto batch = read_record(path, cluster_);
    if (!batch) continue;
    Record& loaded = records_[name];
    loaded.version = *version;
    for (std::size_t i = 0; i < batch->entries.size(); ++i) {
      const auto& one = batch->entries[i];
      places_[{one.stage, one.attempt}] = {name, static_cast<int>(i)};
      if (workspace_.outcome(one.stage, one.attempt) || workspace_.newest_attempt(one.stage) > one.attempt)
        loaded.over.insert(static_cast<int>(i));
    }
    loaded.batch = std::move(*batch);
  }
  std::erase_if(records_, [&](const auto& known) { return !present.contains(known.first); });
  std::erase_if(places_, [&](const auto& place) { return !present.contains(place.second.first); });
}

std::optional<SlurmRecords::Place> SlurmRecords::place(const Attempt& attempt) const {
  const auto found = places_.find(attempt);
  return found == places_.end() ? std::nullopt : std::optional(found->second);
}

SlurmRecords::Record& SlurmRecords::add(SlurmBatch batch) {
  for (std::size_t i = 0; i < batch.entries.size(); ++i)
    places_[{batch.entries[i].stage, batch.entries[i].attempt}] = {batch.name, static_cast<int>(i)};
  Record& record = records_[batch.name];
  record.batch = std::move(batch);
  save(record);
  return record;
}

void SlurmRecords::save(Record& record) {
  const fs::path path = file(record.batch.name);
  write_json(path, to_json(record.batch));
  if (const auto version = version_of(path)) record.version = *version;
}

void SlurmRecords::remove(const std::string& batch) {
  std::error_code ignored;
  fs::remove(script(batch), ignored);
  fs::remove(file(batch), ignored);
  std::erase_if(places_, [&](const auto& place) { return place.second.first == batch; });
  records_.erase(batch);
}

std::vector<SlurmBatch> read_slurm_batches(const Workspace& workspace, const std::string& cluster) {
  std::vector<SlurmBatch> batches;
  for (const auto& path : record_files(workspace))
    if (auto batch = read_record(path, cluster)) batches.push_back(std::move(*batch));
  return batches;
}

}  // namespace filo
