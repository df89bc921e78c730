// The records of a workspace's batches on one cluster (WORKSPACE/slurm/batches/NAME.json), kept in step with the files:
// other processes make, change and remove them too.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/executors/executor.hpp"
#include "scheduler/executors/slurm_batch.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// Not thread-safe.
class SlurmRecords {
 public:
  using Attempt = std::pair<std::string, int>;  // stage, number
  using Place = std::pair<std::string, int>;    // batch, index in it

  struct Record {
    SlurmBatch batch;
    std::pair<std::uint64_t, std::int64_t> version{};  // inode and time of the file
    std::set<int> over;                                // indices whose end is recorded in the workspace
    std::map<int, Job> ended;                          // what this process concluded of them: stays so

    bool is_over() const { return over.size() == batch.entries.size(); }
    SlurmBatch::Entry& entry(int index) { return batch.entries[static_cast<std::size_t>(index)]; }
  };

  // Makes the folder. Throws UsageError when it cannot be made. `cluster`: the settings' name.
  SlurmRecords(const Workspace& workspace, std::string cluster);

  // Reads what has changed. A broken record is left aside with a warning.
  void load();

  std::map<std::string, Record>& all() { return records_; }  // by batch
  Record& at(const std::string& batch) { return records_.at(batch); }
  std::optional<Place> place(const Attempt& attempt) const;  // unset: in no batch

  Record& add(SlurmBatch batch);          // and writes it
  void save(Record& record);              // written durably
  void remove(const std::string& batch);  // with its script

  std::filesystem::path file(const std::string& batch) const;
  std::filesystem::path script(const std::string& batch) const;

 private:
  Workspace workspace_;
  std::string cluster_;
  std::map<std::string, Record> records_;
  std::map<Attempt, Place> places_;
};

// All of this cluster in the workspace, without keeping anything.
std::vector<SlurmBatch> read_slurm_batches(const Workspace& workspace, const std::string& cluster);

}  // namespace filo
