#include "checkpoint/snapshot.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "base/error.hpp"
#include "base/files.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

class SnapshotTest : public testing::Test {
 protected:
  SnapshotTest() {
    std::string name = (fs::temp_directory_path() / "filo_snapshot_XXXXXX").string();
    root = mkdtemp(name.data());
    folder = root / "snapshots";
  }
  ~SnapshotTest() override { fs::remove_all(root); }

  Snapshot write(std::int64_t step) const {
    const auto writer = [step](const std::string& what) {
      return [text = what + std::to_string(step)](const fs::path& path, Sha256& digest) {
        write_file_atomically(path, text);
        digest.update(text);
      };
    };
    return write_snapshot(folder, step, writer("params"), writer("optimizer"), {{"epoch", step / 10}});
  }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(folder)) found.push_back(entry.path().filename().string());
    return found;
  }

  fs::path root, folder;
};

TEST_F(SnapshotTest, NewestIsFoundWithItsState) {
  EXPECT_FALSE(newest_valid_snapshot(folder));
  write(9);
  write(100);
  write(20);
  const auto found = newest_valid_snapshot(folder);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->step, 100);
  EXPECT_EQ(found->folder, folder / "step-00000100");
  EXPECT_EQ(found->state.at("epoch"), 10);
  EXPECT_EQ(read_file(found->params()), "params100");
  EXPECT_EQ(read_file(found->optimizer()), "optimizer100");
}

// Guards resuming from damage: any file altered, cut or gone, and the snapshot before it is taken.
TEST_F(SnapshotTest, AnyDamagePassesOverToTheOneBefore) {
  const std::vector<std::function<void(const fs::path&)>> damages = {
      [](const fs::path& s) { write_file_atomically(s / "params.safetensors", std::string_view("params21")); },
      [](const fs::path& s) { fs::resize_file(s / "optimizer.safetensors", 3); },
      [](const fs::path& s) { fs::remove(s / "state.json"); },
      [](const fs::path& s) { fs::remove(s / "SHA256SUMS"); },
      [](const fs::path& s) { fs::resize_file(s / "SHA256SUMS", 100); },
      [](const fs::path& s) { fs::remove_all(s), write_file_atomically(s, std::string_view("a file")); },
  };
  write(10);
  for (std::size_t i = 0; i < damages.size(); ++i) {
    damages[i](write(20).folder);
    const auto found = newest_valid_snapshot(folder);
    ASSERT_TRUE(found) << i;
    EXPECT_EQ(found->step, 10) << i;
    fs::remove_all(folder / "step-00000020");
  }
}

// Guards against half snapshots: a writer that fails leaves nothing, and the same step's snapshot stays as it was.
TEST_F(SnapshotTest, AFailedWriterLeavesWhatWasThere) {
  write(10);
  const auto nothing = [](const fs::path& path, Sha256&) { write_file_atomically(path, std::string_view("new")); };
  const auto fails = [](const fs::path&, Sha256&) { throw Error("disk", "full"); };
  EXPECT_THROW(write_snapshot(folder, 10, nothing, fails, {}), Error);
  EXPECT_THAT(names(), testing::ElementsAre("step-00000010"));
  EXPECT_EQ(read_file(newest_valid_snapshot(folder)->params()), "params10");
  EXPECT_THROW(write(-1), Error);
  EXPECT_THROW(write(100'000'000), Error);
}

// Guards the snapshot that a phase ends with, however many come after it.
TEST_F(SnapshotTest, PruneKeepsTheBest) {
  for (const int step : {1, 2, 3, 4}) write(step);
  prune_snapshots(folder, 4, 1, 2);
  EXPECT_THAT(names(), testing::UnorderedElementsAre("step-00000002", "step-00000004"));
  EXPECT_EQ(snapshot_at(folder, 2).state.at("epoch"), 0);
  EXPECT_THROW(snapshot_at(folder, 3), Error);
}

TEST_F(SnapshotTest, PruneKeepsTheNewest) {
  for (const int step : {1, 2, 3, 4}) write(step);
  fs::create_directories(folder / ".step-00000005.host.1.0.tmp");  // a killed writer's
  fs::create_directories(folder / "notes");                        // not ours
  prune_snapshots(folder, 4, 2);
  EXPECT_THAT(names(), testing::UnorderedElementsAre("step-00000003", "step-00000004", "notes"));
}

// Guards resumed runs: a damaged snapshot of a higher step must not push out the valid one that was just written.
TEST_F(SnapshotTest, PruneKeepsWhatWasJustWritten) {
  write(10);
  fs::resize_file(write(20).params(), 1);
  prune_snapshots(folder, 10, 1);
  EXPECT_THAT(names(), testing::ElementsAre("step-00000010"));
  prune_snapshots(root / "none", 10, 1);
}

// Guards poisoned snapshots: whole files of no use are passed over too, and who asks is told of each and why.
TEST_F(SnapshotTest, WhatCannotBeUsedIsToldAndPassedOver) {
  for (const int step : {10, 20, 30}) write(step);
  fs::resize_file(folder / "step-00000030/params.safetensors", 1);
  std::vector<std::string> told;
  const auto found = newest_valid_snapshot(
      folder,
      [](const Snapshot& snapshot) {
        if (snapshot.step == 20) throw Error("poisoned", "not finite");
      },
      [&](const fs::path& path, const std::string& why) { told.push_back(path.filename().string() + ": " + why); });
  ASSERT_TRUE(found);
  EXPECT_EQ(found->step, 10);
  EXPECT_THAT(told, testing::ElementsAre(testing::HasSubstr("step-00000030: snapshot: "),
                                         "step-00000020: poisoned: not finite"));
}

}  // namespace
}  // namespace filo
