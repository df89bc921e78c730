// What was read of the stages' folders, kept in memory and in an SQLite file, so that a pass over 100,000 stages that
// did not change looks at each one's identity only. Never believed against the files: an entry counts while
// result.json, the attempts' folder and what else it was read from have the inode, size and time of change that they
// had then.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/files.hpp"
#include "workspace/stage_record.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// $FILO_INDEX, else $XDG_RUNTIME_DIR/filo/DIGEST.sqlite, else /tmp/filo-UID-BOOT/DIGEST.sqlite, DIGEST being of the
// workspace's path: on this machine's own disk, because SQLite's locks do not hold on network file systems, where home
// folders often lie. "" where there is none of these, or FILO_INDEX is "none".
std::filesystem::path index_file(const Workspace& workspace);

// Not thread-safe; several processes may share one file.
class StageIndex {
 public:
  // `file`: "" keeps the index in memory only. A file that is corrupt or not of this workspace is made anew, with a
  // warning; one that cannot be written, or that others keep busy, is left alone.
  StageIndex(const Workspace& workspace, const std::filesystem::path& file);
  ~StageIndex();
  StageIndex(const StageIndex&) = delete;
  StageIndex& operator=(const StageIndex&) = delete;

  // read_stage_record(), from the folder only when it has changed.
  StageRecord record(const std::string& key, StageKind kind);

  // Writes what is new into the file. Never throws: an index that cannot be written costs time, nothing else.
  void save();

  std::size_t reads() const { return reads_; }  // folders read so far

 private:
  class Database;
  // result.json, attempts/, the stage's folder, the newest attempt's folder: what an entry depends on. Zeros: not
  // there, or of no account.
  struct Identity {
    std::array<std::uint64_t, 3> result{};  // inode, size, time of change in ns
    std::array<std::uint64_t, 2> attempts{};
    std::uint64_t folder = 0;
    std::uint64_t newest = 0;
    bool operator==(const Identity&) const = default;
  };
  struct Entry {
    Identity identity;
    StageRecord record;
  };

  // Fills in the identity of what `record` depends on; returns the latest time of change.
  std::uint64_t identify(const std::string& key, const StageRecord& record, Identity& identity) const;
  void load();

  const Workspace& workspace_;
  const std::string result_name_;  // of what lies in a stage's folder
  const std::string attempts_name_;
  FileDescriptor stages_;                             // the folder
  std::unordered_map<std::uint64_t, Entry> entries_;  // by key_number()
  std::vector<std::string> changed_;
  std::unique_ptr<Database> database_;
  std::size_t reads_ = 0;
};

}  // namespace filo
