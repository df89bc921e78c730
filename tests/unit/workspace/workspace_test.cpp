#include "workspace/workspace.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <thread>

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
  moved["train"]["snapshot_every_steps"] = 6;
  moved["dataset"]["name"] = "b";
  EXPECT_EQ(stage_key(moved), stage_key(spec));
  EXPECT_EQ(stage_key(spec).size(), 16u);
  for (const auto& pointer : {"/clip/digest", "/dataset/digest", "/model/prompts/filter", "/train/seed", "/kind"}) {
    Json other = spec;
    other[Json::json_pointer(pointer)] = "other";
    EXPECT_NE(stage_key(other), stage_key(spec)) << pointer;
  }
}

// Guards: a result counts only when it is of this stage, this kind and the newest attempt, and no artifact leads out of
// the stage.
TEST(Workspace, BelievesOnlyTheNewestAttemptsResult) {
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
  EXPECT_FALSE(workspace.result(key, StageKind::train)) << "of a stale attempt";
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
      workspace.write_result({.stage = key, .kind = StageKind::train, .attempt = attempt, .seconds = 1}, of_start);
    });
  };
  EXPECT_THAT(error_of_writing(first, start),
              testing::HasSubstr("start 1 of attempt 1 was superseded by start 2; its result is not recorded"));
  EXPECT_FALSE(std::filesystem::exists(workspace.result_file(key)));

  const int second = workspace.make_attempt(key);
  EXPECT_THAT(error_of_writing(first, restart), testing::HasSubstr("attempt 1 was superseded by attempt 2"));
  EXPECT_FALSE(std::filesystem::exists(workspace.result_file(key)));

  EXPECT_EQ(error_of_writing(second, workspace.make_start(key, second)), "");
  const auto result = workspace.result(key, StageKind::train);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->attempt, second);
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
