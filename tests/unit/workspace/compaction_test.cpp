// Logs and events of what has ended are made smaller, and nobody who reads or still writes them notices.
#include "workspace/compaction.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "tests/unit/support/scratch.hpp"
#include "workspace/events.hpp"
#include "workspace/metric_history.hpp"

namespace filo {
namespace {

constexpr const char* key = "0123456789abcdef";
constexpr CompactionLimits small = {.untouched = 40'000, .log_begin = 10'000, .log_end = 30'000, .events = 20'000};

class Compaction : public ::testing::Test {
 protected:
  Compaction() : workspace(scratch.workspace()) { workspace.create_stage(key, Json::object()); }

  // An attempt that told the main phase's steps after `from` up to `to`, a hundred an epoch, and ended.
  int attempt(int from, int to, double loss, const std::string& last = "finished") {
    const int number = workspace.make_attempt(key);
    EventLog log(workspace.events_file(key, number));
    log.write("started", {{"world_size", 2}});
    for (int step = from + 1; step <= to; ++step) {
      log.write("step", {{"phase", "main"},
                         {"step", step},
                         {"epoch", (step - 1) / 100 + 1},
                         {"epoch_step", (step - 1) % 100 + 1},
                         {"steps", 100},
                         {"loss", loss}});
      if (step % 100 == 0) log.write("epoch", {{"phase", "main"}, {"epoch", step / 100}, {"loss", loss}});
    }
    log.write(last);
    workspace.write_outcome(key, number, {"lost", "vanished", ""});
    return number;
  }
  std::vector<std::string> lines(int number) const {
    std::vector<std::string> lines;
    std::istringstream text(read_file(workspace.events_file(key, number)));
    for (std::string line; std::getline(text, line);) lines.push_back(line);
    return lines;
  }
  static std::string numbered_lines(int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += "line " + std::to_string(i) + "\n";
    return text;
  }
  // Of attempt 1, which is made.
  std::string compacted_log(const std::string& text) {
    workspace.make_attempt(key);
    write_file_atomically(workspace.log_file(key, 1), text);
    EXPECT_TRUE(compact_log(workspace, key, 1, small));
    return read_file(workspace.log_file(key, 1));
  }

  Scratch scratch;
  Workspace workspace;
};

// Guards: begin and end stay, in whole lines, what is missing is said, and it is done once.
TEST_F(Compaction, ALongLogKeepsItsBeginAndItsEnd) {
  const std::string text = numbered_lines(20'000);
  const std::string log = compacted_log(text);
  EXPECT_LE(log.size(), small.untouched);
  EXPECT_GE(log.size(), small.untouched - 300);
  const auto note = log.find("--- ");
  const auto after = log.find('\n', note) + 1;
  ASSERT_NE(note, std::string::npos);
  EXPECT_TRUE(text.starts_with(log.substr(0, note)));
  EXPECT_TRUE(text.ends_with("\n" + log.substr(after)));
  EXPECT_EQ(log.substr(note, after - note),
            "--- " + std::to_string(text.size() - note - (log.size() - after)) + " bytes were left out here ---\n");
  EXPECT_FALSE(compact_log(workspace, key, 1, small));
}

TEST_F(Compaction, ALogWithoutLinesIsCutAllTheSame) {
  const std::string log = compacted_log(std::string(100'000, 'x'));
  EXPECT_LE(log.size(), small.untouched);
  EXPECT_THAT(log, testing::HasSubstr("x\n--- 60128 bytes were left out here ---\nx"));
}

TEST_F(Compaction, AShortLogAndNoneStayAsTheyAre) {
  workspace.make_attempt(key);
  EXPECT_FALSE(compact_log(workspace, key, 1, small));
  write_file_atomically(workspace.log_file(key, 1), numbered_lines(100));
  EXPECT_FALSE(compact_log(workspace, key, 1, small));
  EXPECT_EQ(read_file(workspace.log_file(key, 1)), numbered_lines(100));
}

// Guards against a worker that lives on although its attempt was given up.
TEST_F(Compaction, WhatALateWriterStillWritesHarmsNothing) {
  workspace.make_attempt(key);
  write_file_atomically(workspace.log_file(key, 1), numbered_lines(20'000));
  const FileDescriptor writer = open_file(workspace.log_file(key, 1), O_WRONLY | O_APPEND);
  ASSERT_TRUE(compact_log(workspace, key, 1, small));
  const std::string log = read_file(workspace.log_file(key, 1));
  write_all(writer.get(), "still here\n", workspace.log_file(key, 1));
  EXPECT_EQ(read_file(workspace.log_file(key, 1)), log);
}

// Guards: all that is no step, the edges of epochs, and every k-th step stay as they were written.
TEST_F(Compaction, LongEventsKeepEveryFewSteps) {
  const int number = attempt(0, 1000, 0.5);
  const auto before = lines(number);
  ASSERT_TRUE(compact_events(workspace, key, small));
  const auto after = lines(number);
  EXPECT_LE(std::filesystem::file_size(workspace.events_file(key, number)), small.events + 1000);
  EXPECT_GE(std::filesystem::file_size(workspace.events_file(key, number)), small.events / 2);
  std::vector<std::int64_t> steps;
  auto original = before.begin();
  std::size_t others = 0;
  for (const auto& line : after) {
    original = std::find(original, before.end(), line);  // verbatim, and in their order
    ASSERT_NE(original, before.end()) << line;
    const Json event = Json::parse(line);
    if (event["event"] == "step")
      steps.push_back(event["step"]);
    else
      ++others;
  }
  EXPECT_EQ(others, 12u);  // started, ten epochs, finished
  for (std::int64_t edge = 100; edge <= 1000; edge += 100) EXPECT_THAT(steps, testing::IsSupersetOf({edge - 99, edge}));
  EXPECT_FALSE(compact_events(workspace, key, small));
}

// Guards the rule for steps that are told twice: its numbers are still the last told.
TEST_F(Compaction, AResumedTrainingLosesTheSameStepsInAllAttempts) {
  attempt(0, 290, 0.5, "failed");  // short
  attempt(200, 1500, 0.25);
  const auto before = metric_points(workspace, key, "step", "main", "loss");
  ASSERT_TRUE(compact_events(workspace, key, small));
  const auto after = metric_points(workspace, key, "step", "main", "loss");
  EXPECT_LT(after.size(), before.size() / 2);
  for (const auto& [step, point] : after) {
    EXPECT_EQ(point.value, before.at(step).value) << step;
    EXPECT_EQ(point.first_value, before.at(step).first_value) << step;
    EXPECT_EQ(point.time, before.at(step).time) << step;
  }
  EXPECT_EQ(after.at(300).value, 0.25);
}

TEST_F(Compaction, ShortEventsStayAsTheyAre) {
  const int number = attempt(0, 50, 0.5);
  const auto before = lines(number);
  EXPECT_FALSE(compact_events(workspace, key, small));
  EXPECT_EQ(lines(number), before);
}

// Guards a command or a page that follows a stage while its file is replaced: nothing twice, and what stays all comes.
TEST_F(Compaction, AReaderGoesOnInTheThinnedFile) {
  const int number = attempt(0, 1000, 0.5);
  EventReader reader(workspace.events_file(key, number), number);
  EventReader done(workspace.events_file(key, number), number);
  std::vector<EventLine> seen = reader.read_lines(50'000);
  ASSERT_LT(seen.size(), 900u);
  const std::int64_t at = seen.back().sequence;
  while (!done.read_lines().empty()) {
  }
  ASSERT_TRUE(compact_events(workspace, key, small));
  std::vector<std::int64_t> rest, expected;
  for (auto lines = reader.read_lines(1000); !lines.empty(); lines = reader.read_lines(1000))
    for (const auto& line : lines) rest.push_back(line.sequence);
  for (const auto& line : lines(number))
    if (const std::int64_t sequence = Json::parse(line)["seq"]; sequence > at) expected.push_back(sequence);
  EXPECT_EQ(rest, expected);
  EXPECT_TRUE(done.read_lines().empty());
}

// Guards: should an attempt be started again after all, its numbers go on growing.
TEST_F(Compaction, NumbersGoOnAfterTheLastOfAThinnedFile) {
  const int number = attempt(0, 1000, 0.5);
  const std::int64_t last = Json::parse(lines(number).back())["seq"];
  ASSERT_TRUE(compact_events(workspace, key, small));
  EventLog(workspace.events_file(key, number)).write("started");
  EXPECT_EQ(Json::parse(lines(number).back())["seq"], last + 1);
}

}  // namespace
}  // namespace filo
