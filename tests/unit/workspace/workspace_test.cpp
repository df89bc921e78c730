#include "workspace/workspace.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <set>
#include <thread>

#include "base/host.hpp"
#include "base/log.hpp"
#include "tests/unit/support/scratch.hpp"

namespace filo {
namespace {

constexpr const char* key = "0123456789abcdef";

// Guards: moving weights or renaming a data set does not run anything again; changing what they are does.
TEST(StageKey, DependsOnWhatThingsAreNotWhere) {
  const Json spec = {{"kind", "train"},
                     {"clip", {{"path", "/here"}, {"digest", "d"}}},
                     {"model", {{"clip", "/here"}, {"prompts", {{"descriptions", "x.yaml"}, {"filter", true}}}}},
                     {"train", {{"seed", 1}, {"snapshot_every_steps", 5}}},
                     {"dataset", {{"name", "a"}, {"digest", "e"}}}};
  Json moved = spec;
  moved["clip"]["path"] = moved["model"]["clip"] = "/there";
  moved["model"]["prompts"]["descriptions"] = "y.yaml";
  moved["train"].erase("snapshot_every_steps");  // as former versions wrote it
  moved["train"]["snapshots"] = {{"every_steps", 6}, {"every_minutes", 1.5}, {"keep", 3}, {"best_by", "none"}};
  moved["dataset"]["name"] = "b";
  EXPECT_EQ(stage_key(moved), stage_key(spec));
  EXPECT_EQ(stage_key(spec).size(), 16u);
  for (const auto& pointer : {"/clip/digest", "/dataset/digest", "/model/prompts/filter", "/train/seed", "/kind"}) {
    Json other = spec;
    other[Json::json_pointer(pointer)] = "other";
    EXPECT_NE(stage_key(other), stage_key(spec)) << pointer;
  }
  moved["train"]["snapshots"]["best_by"] = "validation_loss";
  EXPECT_NE(stage_key(moved), stage_key(spec));
}

// Guards: a result counts only when it is of this stage, this kind and an attempt that was made, and no artifact leads
// out of the stage. One that appears when its attempt was given up already counts too: the work is done.
TEST(Workspace, BelievesOnlyResultsOfAttemptsThatWereMade) {
  const Scratch scratch;
  const Workspace workspace = scratch.workspace();
  workspace.create_stage(key, {{"kind", "train"}});
  EXPECT_FALSE(workspace.result(key, StageKind::train));
  ASSERT_EQ(workspace.make_attempt(key), 1);
  write_result(workspace, key, StageKind::train, 1, Json::object(),
               {{"good", "a/b"}, {"up", "../../x"}, {"root", "/etc"}});
  ASSERT_TRUE(workspace.result(key, StageKind::train));
  EXPECT_EQ(workspace.result(key, StageKind::train)->artifacts, Json({{"good", "a/b"}}));
  EXPECT_FALSE(workspace.result(key, StageKind::evaluate));
  write_result(workspace, key, StageKind::train, 2);
  EXPECT_FALSE(workspace.result(key, StageKind::train)) << "of an attempt that was never made";
  write_result(workspace, key, StageKind::train, 1);
  ASSERT_EQ(workspace.make_attempt(key), 2);
  EXPECT_EQ(workspace.result(key, StageKind::train)->attempt, 1) << "of an attempt that was given up";
  for (const char* broken : {"", "{", "[]", R"({"stage": 1})", R"({"stage": "0123456789abcdef", "kind": "train"})"}) {
    write_file_atomically(workspace.result_file(key), broken);
    EXPECT_FALSE(workspace.result(key, StageKind::train)) << broken;
  }
}

// Guards the fence: a worker that a newer attempt, or a newer start of its own attempt, has taken the place of records
// nothing, however late it ends.
TEST(Workspace, ASupersededAttemptOrStartRecordsNothing) {
  const Scratch scratch;
  const Workspace workspace = scratch.workspace();
  workspace.create_stage(key, {{"kind", "train"}});
  const int first = workspace.make_attempt(key);
  const int start = workspace.make_start(key, first);
  const int restart = workspace.make_start(key, first);
  EXPECT_EQ(start, 1);
  EXPECT_EQ(restart, 2);
  const auto error_of_writing = [&](int attempt, int of_start) {
    return error_of([&] {
      workspace.commit({.stage = key, .kind = StageKind::train, .attempt = attempt, .seconds = 1}, of_start);
    });
  };
  EXPECT_THAT(error_of_writing(first, start),
              testing::HasSubstr("start 1 of attempt 1 was superseded by start 2; nothing of it is recorded"));
  EXPECT_FALSE(std::filesystem::exists(workspace.result_file(key)));

  const int second = workspace.make_attempt(key);
  EXPECT_THAT(error_of_writing(first, restart), testing::HasSubstr("attempt 1 was superseded by attempt 2"));
  EXPECT_FALSE(std::filesystem::exists(workspace.result_file(key)));

  EXPECT_EQ(error_of_writing(second, workspace.make_start(key, second)), "");
  const auto result = workspace.result(key, StageKind::train);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->attempt, second);
}

// Guards: a start that was given up leaves what its successor made alone; what is unfinished goes when one is done.
TEST(Workspace, WhatAStartMakesIsTheStagesWhenItCommits) {
  const Scratch scratch;
  const Workspace workspace = scratch.workspace();
  workspace.create_stage(key, {{"kind", "train"}});
  const auto make = [&](int attempt, int start, const std::string& text) {
    const auto folder = workspace.start_folder(key, attempt, start) / "checkpoint";
    std::filesystem::create_directories(folder);
    write_file_atomically(folder / "settings.json", text);
    return StageResult{.stage = key, .kind = StageKind::train, .attempt = attempt, .artifacts = {{"c", "checkpoint"}}};
  };
  const auto made = [&] { return read_file(workspace.checkpoint_folder(key) / "settings.json"); };
  const int first = workspace.make_attempt(key);
  const StageResult stale = make(first, workspace.make_start(key, first), "stale");
  const int second = workspace.make_attempt(key);
  workspace.commit(make(second, workspace.make_start(key, second), "good"), 1);
  EXPECT_EQ(made(), "good");
  EXPECT_FALSE(std::filesystem::exists(workspace.start_folder(key, first, 1) / "checkpoint"));
  make(first, 1, "stale");
  EXPECT_THAT(error_of([&] { workspace.commit(stale, 1); }), testing::HasSubstr("superseded by attempt 2"));
  EXPECT_EQ(made(), "good");
  const int again = workspace.make_start(key, second);
  workspace.commit(make(second, again, "better"), again);
  EXPECT_EQ(made(), "better") << "a folder takes a folder's place";
}

// Guards: ages are told by the clock that stamps the files, which here is this machine's, and not by anything else.
TEST(Workspace, AgesAreByTheFilesClock) {
  const Scratch scratch;
  const Workspace workspace = scratch.workspace();
  const std::string file = scratch.write("workspace/file", "");
  EXPECT_LT(std::abs(workspace.age_s(file)), 5);
  std::filesystem::last_write_time(file, std::filesystem::file_time_type::clock::now() - std::chrono::seconds(500));
  EXPECT_NEAR(workspace.age_s(file), 500, 5);
  EXPECT_EQ(workspace.age_s(scratch.folder / "none"), 1e9);
  EXPECT_TRUE(std::filesystem::exists(workspace.clock_file(host_name())));
  FileClock unwritable("/proc/none/clock");
  EXPECT_NEAR(unwritable.now_s(), wall_time_s(), 1);
}

// Guards against silence: whoever waits for the workspace learns for whom.
TEST(Workspace, WhoHoldsTheLockIsTold) {
  const Scratch scratch;
  const Workspace workspace = scratch.workspace();
  FileDescriptor held = workspace.lock();
  start_logging("test");
  testing::internal::CaptureStderr();
  std::thread waiting([&] { workspace.lock(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(2300));
  held.reset();
  waiting.join();
  const std::string told = testing::internal::GetCapturedStderr();
  EXPECT_THAT(told, testing::HasSubstr("waiting for " + workspace.lock_file().string() + ", held for "));
  EXPECT_THAT(told, testing::HasSubstr(" s by process " + std::to_string(getpid()) + " on " + host_name()));
}

// Guards one attempt from a second one beside it: what was read is out of date when the next attempt is there.
TEST(Workspace, AnAttemptFollowsTheOneThatWasRead) {
  const Scratch scratch;
  const Workspace workspace = scratch.workspace();
  workspace.create_stage(key, Json::object());
  EXPECT_TRUE(workspace.make_attempt_after(key, 0));
  EXPECT_FALSE(workspace.make_attempt_after(key, 0));
  EXPECT_TRUE(workspace.make_attempt_after(key, 1));
  EXPECT_EQ(workspace.make_attempt(key), 3);
}

// Guards: two processes that make attempts at the same moment get different numbers.
TEST(Workspace, AttemptsAreNumberedExclusively) {
  const Scratch scratch;
  const Workspace workspace = scratch.workspace();
  workspace.create_stage(key, Json::object());
  std::set<int> numbers[2];
  std::thread other([&] {
    for (int i = 0; i < 50; ++i) numbers[0].insert(workspace.make_attempt(key));
  });
  for (int i = 0; i < 50; ++i) numbers[1].insert(workspace.make_attempt(key));
  other.join();
  numbers[0].merge(numbers[1]);
  EXPECT_EQ(numbers[0].size(), 100u);
}

// Guards: a spec is renewed when its paths moved, and stays once there is a result.
TEST(Workspace, RenewsASpecUntilItIsDone) {
  const Scratch scratch;
  const Workspace workspace = scratch.workspace();
  workspace.create_stage(key, {{"path", 1}});
  workspace.create_stage(key, {{"path", 2}});
  EXPECT_EQ(read_json(workspace.spec_file(key)), Json({{"path", 2}}));
  workspace.make_attempt(key);
  write_result(workspace, key, StageKind::train, 1);
  workspace.create_stage(key, {{"path", 3}});
  EXPECT_EQ(read_json(workspace.spec_file(key)), Json({{"path", 2}}));
}

TEST(Workspace, LogTailIsTheLastLines) {
  const Scratch scratch;
  const Workspace workspace = scratch.workspace();
  workspace.create_stage(key, Json::object());
  workspace.make_attempt(key);
  EXPECT_EQ(workspace.log_tail(key, 1, 2), "");
  write_file_atomically(workspace.log_file(key, 1), "one\ntwo\nthree\n");
  EXPECT_EQ(workspace.log_tail(key, 1, 2), "two\nthree");
  EXPECT_EQ(workspace.log_tail(key, 1, 9), "one\ntwo\nthree");
}

}  // namespace
}  // namespace filo
