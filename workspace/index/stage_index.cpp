#include "workspace/index/stage_index.hpp"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>
#include <type_traits>

#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/host.hpp"
#include "base/log.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

// What changed less than this ago may change again without another time of change: it is read anew next time.
constexpr std::uint64_t settled_after_ns = 2'000'000'000;
constexpr int format = 1;
constexpr int busy_timeout_ms = 2000;

std::uint64_t nanoseconds(const timespec& time) {
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(time.tv_nsec);
}

std::uint64_t fnv(std::string_view bytes) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3u;
  return hash;
}

// Rows hold numbers and texts one after another, and a checksum over all of it and the key.
class Packer {
 public:
  template <typename Number>
  void number(Number value) {
    static_assert(std::is_arithmetic_v<Number>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void text(const std::string& value) {
    number(static_cast<std::uint32_t>(value.size()));
    bytes_ += value;
  }
  std::string finish(const std::string& key) {
    number(fnv(bytes_ + key));
    return std::move(bytes_);
  }

 private:
  std::string bytes_;
};

class Unpacker {
 public:
  Unpacker(std::string_view bytes, const std::string& key) : bytes_(bytes) {
    if (bytes.size() < sizeof(std::uint64_t)) throw Error("index", "a row is cut short");
    const std::string_view body = bytes.substr(0, bytes.size() - sizeof(std::uint64_t));
    std::uint64_t written = 0;
    std::memcpy(&written, bytes.data() + body.size(), sizeof written);
    if (fnv(std::string(body) + key) != written) throw Error("index", "the checksum of a row is wrong");
    bytes_ = body;
  }
  template <typename Number>
  void number(Number& value) {
    take(&value, sizeof value);
  }
  void text(std::string& value) {
    std::uint32_t size = 0;
    number(size);
    if (size > bytes_.size()) throw Error("index", "a row is cut short");
    value.assign(bytes_.substr(0, size));
    bytes_.remove_prefix(size);
  }

 private:
  void take(void* to, std::size_t size) {
    if (size > bytes_.size()) throw Error("index", "a row is cut short");
    std::memcpy(to, bytes_.data(), size);
    bytes_.remove_prefix(size);
  }
  std::string_view bytes_;
};

// Every member in one order, for both ways.
template <typename Coder, typename Record>
void each_member(Coder& coder, Record& record) {
  coder.number(record.attempt);
  coder.number(record.done);
  coder.number(record.seconds);
  coder.number(record.ended);
  coder.number(record.retried);
  coder.number(record.cancelled);
  coder.number(record.counts.failures);
  coder.number(record.counts.requeues);
  coder.number(record.counts.timeouts);
  coder.number(record.counts.out_of_memory);
  coder.text(record.last_failure);
  coder.text(record.last_reason);
}

// A folder of this user's own, no link, which nobody else can write to: /tmp is everybody's.
bool is_ours(const fs::path& folder) {
  struct stat status {};
  return lstat(folder.c_str(), &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == geteuid() &&
         (status.st_mode & 022) == 0;
}

// Another process writes: its data base is sound, and not to be made anew.
bool is_busy(const std::exception& problem) {
  const auto* error = dynamic_cast<const SQLite::Exception*>(&problem);
  return error != nullptr && (error->getErrorCode() == SQLITE_BUSY || error->getErrorCode() == SQLITE_LOCKED);
}

// stat of `name` in the folder; unset when there is none.
std::optional<struct stat> status_of(int folder, const char* name) {
  struct stat status {};
  if (fstatat(folder, name, &status, 0) == 0) return status;
  return std::nullopt;
}

}  // namespace

fs::path index_file(const Workspace& workspace) {
  if (const char* chosen = std::getenv("FILO_INDEX"); chosen != nullptr && *chosen != '\0')
    return std::string_view(chosen) == "none" ? fs::path() : fs::path(chosen);
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  const std::string name = sha256_hex(workspace.root().string()).substr(0, 16) + ".sqlite";
  if (runtime != nullptr && *runtime == '/' && is_ours(runtime)) return fs::path(runtime) / "filo" / name;
  const fs::path folder = "/tmp/filo-" + std::to_string(geteuid()) + "-" + boot_id().substr(0, 8);
  return mkdir(folder.c_str(), 0700) == 0 || is_ours(folder) ? folder / name : fs::path();
}

class StageIndex::Database {
 public:
  Database(const fs::path& file, const std::string& workspace) : workspace_(workspace), file_(file) {
    std::error_code error;
    fs::create_directories(file.parent_path(), error);
    try {
      open();
    } catch (const std::exception& problem) {
      if (is_busy(problem)) throw;
      log_warning("index: " + file.string() + ": " + problem.what() + "; it is made anew");
      database_.reset();
      for (const char* suffix : {"", "-wal", "-shm"}) fs::remove(file.string() + suffix, error);
      open();
    }
  }

  std::size_t rows() {
    SQLite::Statement count(*database_, "SELECT COUNT(*) FROM stages");
    return count.executeStep() ? static_cast<std::size_t>(count.getColumn(0).getInt64()) : 0;
  }

  template <typename Take>
  void each_row(const Take& take) {
    SQLite::Statement rows(*database_, "SELECT key, identity, facts FROM stages");
    while (rows.executeStep()) {
      const auto text = [&](int column) {
        const SQLite::Column value = rows.getColumn(column);
        return std::string_view(static_cast<const char*>(value.getBlob()), static_cast<std::size_t>(value.getBytes()));
      };
      take(std::string(text(0)), text(1), text(2));
    }
  }

  template <typename Give>  // give(i, key, identity, record)
  void write(std::size_t count, const Give& give) {
    SQLite::Transaction transaction(*database_);
    SQLite::Statement insert(*database_, "INSERT OR REPLACE INTO stages VALUES (?, ?, ?)");
    for (std::size_t i = 0; i < count; ++i) {
      const auto [key, identity, record] = give(i);
      insert.bind(1, key);
      insert.bind(2, identity.data(), static_cast<int>(identity.size()));
      insert.bind(3, record.data(), static_cast<int>(record.size()));
      insert.exec();
      insert.reset();
    }
    transaction.commit();
  }

 private:
  void open() {
    database_.emplace(file_.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE, busy_timeout_ms);
    database_->exec("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL");
    database_->exec(
        "CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;"
        "CREATE TABLE IF NOT EXISTS stages (key TEXT PRIMARY KEY, identity BLOB, facts BLOB) WITHOUT ROWID");
    about("format", std::to_string(format));
    about("workspace", workspace_);
  }

  void about(const std::string& name, const std::string& expected) {
    SQLite::Statement find(*database_, "SELECT value FROM about WHERE name = ?");
    find.bind(1, name);
    if (!find.executeStep()) {
      SQLite::Statement insert(*database_, "INSERT OR IGNORE INTO about VALUES (?, ?)");
      insert.bind(1, name);
      insert.bind(2, expected);
      insert.exec();
      return;
    }
    const std::string found = find.getColumn(0);
    if (found != expected) throw Error("index", "found " + name + " " + found + ", expected " + expected);
  }

  std::string workspace_;
  fs::path file_;
  std::optional<SQLite::Database> database_;
};

StageIndex::StageIndex(const Workspace& workspace, const fs::path& file)
    : workspace_(workspace),
      result_name_(workspace.result_file("").filename().string()),
      attempts_name_(workspace.attempts_folder("").filename().string()) {
  if (file.empty()) return;
  try {
    database_ = std::make_unique<Database>(file, workspace.root().string());
    try {
      load();
    } catch (const std::exception& problem) {  // damaged inside: what was read so far is checked against the files too
      if (is_busy(problem)) throw;
      log_warning("index: " + file.string() + ": " + problem.what() + "; it is made anew");
      entries_.clear();
      database_.reset();
      std::error_code error;
      for (const char* suffix : {"", "-wal", "-shm"}) fs::remove(file.string() + suffix, error);
      database_ = std::make_unique<Database>(file, workspace.root().string());
    }
  } catch (const std::exception& problem) {
    log_warning("index: " + file.string() + ": " + problem.what() + "; going on without it, which takes longer");
    database_.reset();
  }
}

StageIndex::~StageIndex() { save(); }

void StageIndex::load() {
  entries_.reserve(database_->rows());
  database_->each_row([&](const std::string& key, std::string_view identity, std::string_view record) {
    Entry entry;
    if (identity.size() != sizeof entry.identity) throw Error("index", "a row is cut short");
    std::memcpy(&entry.identity, identity.data(), sizeof entry.identity);
    Unpacker unpacker(record, key + std::string(identity));
    each_member(unpacker, entry.record);
    bool requested = false;
    unpacker.number(requested);
    if (requested) {
      StageRequest request;
      unpacker.text(request.action);
      unpacker.text(request.reason);
      unpacker.number(request.time);
      entry.record.request = std::move(request);
    }
    entries_.emplace(key_number(key), std::move(entry));
  });
}

void StageIndex::save() {
  if (!database_ || changed_.empty()) return;
  std::erase_if(changed_, [&](const std::string& key) { return !entries_.contains(key_number(key)); });
  try {
    database_->write(changed_.size(), [&](std::size_t i) {
      const std::string& key = changed_[i];
      const Entry& entry = entries_.at(key_number(key));
      const std::string identity(reinterpret_cast<const char*>(&entry.identity), sizeof entry.identity);
      Packer packer;
      each_member(packer, entry.record);
      packer.number(entry.record.request.has_value());
      if (entry.record.request) {
        packer.text(entry.record.request->action);
        packer.text(entry.record.request->reason);
        packer.number(entry.record.request->time);
      }
      return std::make_tuple(key, identity, packer.finish(key + identity));
    });
    changed_.clear();
  } catch (const std::exception& problem) {
    if (is_busy(problem)) return;  // the next save() writes it
    log_warning("index: " + std::string(problem.what()) + "; going on without it, which takes longer");
    database_.reset();
  }
}

std::uint64_t StageIndex::identify(const std::string& key, const StageRecord& record, Identity& identity) const {
  std::uint64_t newest_change = 0;
  const auto changed = [&](const struct stat& status) {
    const std::uint64_t time = nanoseconds(status.st_mtim);
    newest_change = std::max(newest_change, time);
    return time;
  };
  char name[64];  // keys have 16 digits, attempts at most 9
  const auto under = [&](const char* rest, int attempt = 0) {
    if (attempt == 0)
      std::snprintf(name, sizeof name, "%.16s/%s", key.c_str(), rest);
    else
      std::snprintf(name, sizeof name, "%.16s/%s/%d", key.c_str(), rest, attempt);
    return status_of(stages_.get(), name);
  };
  if (const auto status = under(result_name_.c_str()))
    identity.result = {status->st_ino, static_cast<std::uint64_t>(status->st_size), changed(*status)};
  if (const auto status = under(attempts_name_.c_str())) identity.attempts = {status->st_ino, changed(*status)};
  if (!record.done) {  // requests, retries and ends of attempts say nothing about what is done
    if (const auto status = under("")) identity.folder = changed(*status);
    if (record.attempt > 0)
      if (const auto status = under(attempts_name_.c_str(), record.attempt)) identity.newest = changed(*status);
  }
  return newest_change;
}

StageRecord StageIndex::record(const std::string& key, StageKind kind) {
  if (stages_.get() < 0) {
    const int folder = open(workspace_.stages_folder().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return read_stage_record(workspace_, key, kind);
    stages_ = FileDescriptor(folder);
  }
  const std::uint64_t number = key_number(key);
  const auto known = entries_.find(number);
  if (known != entries_.end()) {
    Identity identity;
    identify(key, known->second.record, identity);
    if (identity == known->second.identity) return known->second.record;
  }
  const auto begun = static_cast<std::uint64_t>(workspace_.file_time_s() * 1e9);
  StageRecord record = read_stage_record(workspace_, key, kind);
  ++reads_;
  Identity identity;
  const std::uint64_t newest_change = identify(key, record, identity);
  // What changed while it was read, or has an attempt that has yet to end, is read again next time.
  const bool keep = newest_change + settled_after_ns < begun && (record.done || record.attempt == 0 || record.ended);
  if (keep) {
    entries_[number] = Entry{identity, record};
    changed_.push_back(key);
  } else if (known != entries_.end()) {
    entries_.erase(known);
  }
  return record;
}

}  // namespace filo
