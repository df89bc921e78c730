#include "workspace/index/stage_index.hpp"

#include <SQLiteCpp/SQLiteCpp.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <fstream>

#include "scheduler/plan/plan.hpp"
#include "tests/unit/support/scratch.hpp"

namespace filo {
namespace {

constexpr const char* key = "0123456789abcdef";

class Index : public ::testing::Test {
 protected:
  Index() : workspace(scratch.workspace()), file(scratch.folder / "cache" / "index.sqlite") {
    workspace.create_stage(key, Json::object());
    workspace.make_attempt(key);
    workspace.write_claim(key, 1, Json::object());
    workspace.write_outcome(key, 1, {"done", "exited", ""});
    write_result(workspace, key, StageKind::train, 1);
    age();
  }
  // What was written this moment counts as not settled.
  void age(std::chrono::seconds by = std::chrono::hours(1)) {
    const auto before = std::filesystem::file_time_type::clock::now() - by;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(workspace.root()))
      std::filesystem::last_write_time(entry.path(), before);
  }
  // How often the folder was read to tell whether the stage is done.
  std::size_t reads_for(bool done) {
    StageIndex index(workspace, file);
    EXPECT_EQ(index.record(key, StageKind::train).done, done);
    return index.reads();
  }

  Scratch scratch;
  Workspace workspace;
  std::filesystem::path file;
};

TEST_F(Index, ReadsWhatDidNotChangeOnce) {
  EXPECT_EQ(reads_for(true), 1u);
  EXPECT_EQ(reads_for(true), 0u);
  StageIndex memory_only(workspace, "");
  memory_only.record(key, StageKind::train);
  memory_only.record(key, StageKind::train);
  EXPECT_EQ(memory_only.reads(), 1u);
}

// Guards: the index is never believed against the files.
TEST_F(Index, SeesEveryKindOfChange) {
  StageIndex index(workspace, file);
  const auto record = [&] { return index.record(key, StageKind::train); };
  EXPECT_TRUE(record().done);
  std::filesystem::remove(workspace.result_file(key));
  age(std::chrono::minutes(50));
  EXPECT_FALSE(record().done);
  EXPECT_EQ(record().counts.failures, 1);
  workspace.write_request(key, {"cancel", "enough"});
  age(std::chrono::minutes(40));
  EXPECT_EQ(record().request->reason, "enough");
  workspace.retry(key);
  age(std::chrono::minutes(30));
  EXPECT_FALSE(record().request);
  EXPECT_EQ(record().counts.failures, 0);
  workspace.make_attempt(key);
  age(std::chrono::minutes(20));
  EXPECT_EQ(record().attempt, 2);
  EXPECT_FALSE(record().ended);
  workspace.write_outcome(key, 2, {"failed", "exited", "exit code 1"});
  age(std::chrono::minutes(10));
  EXPECT_EQ(record().last_failure, "exit code 1");
}

// Guards: a result that was overwritten in place, in the same second and with the same size.
TEST_F(Index, SeesAResultThatWasOverwritten) {
  EXPECT_EQ(reads_for(true), 1u);
  std::fstream result(workspace.result_file(key), std::ios::in | std::ios::out);
  result << "X" << std::flush;
  EXPECT_EQ(reads_for(false), 1u);
}

// Guards: what changed a moment ago may change again within one tick of the file system's clock.
TEST_F(Index, DoesNotKeepWhatHasJustChanged) {
  workspace.write_request(key, {"cancel", "enough"});
  std::filesystem::remove(workspace.result_file(key));
  EXPECT_EQ(reads_for(false), 1u);
  EXPECT_EQ(reads_for(false), 1u);
}

// Guards: whatever stands where the index should be costs a rescan and nothing else.
TEST_F(Index, AFileThatIsNoIndexIsMadeAnew) {
  scratch.write("cache/index.sqlite", "not a data base at all, but long enough to have had a header of one");
  EXPECT_EQ(reads_for(true), 1u);
  EXPECT_EQ(reads_for(true), 0u);
}

TEST_F(Index, AnotherWorkspacesIndexIsMadeAnew) {
  const Workspace other(scratch.folder / "other");
  { StageIndex index(other, file); }
  EXPECT_EQ(reads_for(true), 1u);
  EXPECT_EQ(reads_for(true), 0u);
}

// Guards: a flipped bit anywhere in the file changes no answer.
TEST_F(Index, ADamagedIndexIsNotBelieved) {
  reads_for(true);
  const std::string sound = read_file(file);
  std::size_t anew = 0;
  for (std::size_t at = 0; at < sound.size(); at += 101) {
    std::string damaged = sound;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    for (const char* suffix : {"-wal", "-shm"}) std::filesystem::remove(file.string() + suffix);
    write_file_atomically(file, damaged);
    StageIndex index(workspace, file);
    const StageRecord record = index.record(key, StageKind::train);
    EXPECT_TRUE(record.done) << "byte " << at;
    EXPECT_EQ(record.attempt, 1) << "byte " << at;
    EXPECT_EQ(record.seconds, 2.0) << "byte " << at;
    anew += index.reads();
  }
  EXPECT_GT(anew, 0u);
}

TEST_F(Index, APlaceThatCannotBeWrittenIsNoError) {
  scratch.write("cache", "a file where the folder should be");
  EXPECT_EQ(reads_for(true), 1u);
  EXPECT_EQ(reads_for(true), 1u);
}

// Guards others' work: a data base that another process holds is no broken one.
TEST_F(Index, ABusyIndexIsNotMadeAnew) {
  EXPECT_EQ(reads_for(true), 1u);
  {
    SQLite::Database holder(file.string(), SQLite::OPEN_READWRITE);
    holder.exec("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE; INSERT INTO about VALUES ('held', 'yes'); COMMIT");
    EXPECT_EQ(reads_for(true), 1u);
    EXPECT_TRUE(std::filesystem::exists(file));
  }
  EXPECT_EQ(reads_for(true), 0u);
}

// Guards SQLite against network file systems: the index lies on this machine's own disk, in a folder of the user's own.
TEST_F(Index, LiesOnThisMachinesDisk) {
  const auto set = [](const char* name, const char* value) {
    value == nullptr ? unsetenv(name) : setenv(name, value, 1);
  };
  const char* runtime = getenv("XDG_RUNTIME_DIR");
  const std::string before = runtime == nullptr ? "" : runtime;
  unsetenv("FILO_INDEX");
  std::filesystem::create_directory(scratch.folder / "runtime");
  set("XDG_RUNTIME_DIR", (scratch.folder / "runtime").c_str());
  EXPECT_EQ(index_file(workspace).parent_path(), scratch.folder / "runtime" / "filo");
  std::filesystem::permissions(scratch.folder / "runtime", std::filesystem::perms::all);
  const std::string in_tmp = "/tmp/filo-" + std::to_string(geteuid()) + "-";
  EXPECT_THAT(index_file(workspace).string(), testing::StartsWith(in_tmp)) << "others may write there";
  set("XDG_RUNTIME_DIR", nullptr);
  EXPECT_THAT(index_file(workspace).string(), testing::StartsWith(in_tmp));
  set("XDG_RUNTIME_DIR", before.empty() ? nullptr : before.c_str());
}

}  // namespace
}  // namespace filo
