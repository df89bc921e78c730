// events.jsonl: what is written is read back, over restarts and torn lines.
#include "workspace/events.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "tests/unit/support/scratch.hpp"

namespace filo {
namespace {

std::vector<Json> lines_of(const std::filesystem::path& path) {
  std::vector<Json> lines;
  std::istringstream text(read_file(path));
  for (std::string line; std::getline(text, line);) lines.push_back(Json::parse(line, nullptr, false));
  return lines;
}

TEST(EventLog, NumbersItsLinesWithoutGapsOverARestart) {
  const Scratch scratch;
  const auto path = scratch.folder / "events.jsonl";
  {
    EventLog log(path);
    log.write("started");
    log.write("step", {{"loss", 0.5}});
  }
  EventLog log(path);
  log.write("finished");
  const std::vector<Json> lines = lines_of(path);
  ASSERT_EQ(lines.size(), 3u);
  for (std::size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i]["seq"], i);
  EXPECT_EQ(lines[1]["loss"], 0.5);
  EXPECT_EQ(lines[2]["event"], "finished");
  EXPECT_GT(lines[2]["time"].get<double>(), 1.6e9);
}

TEST(EventLog, EndsATornLineSoThatTheNextOneIsWhole) {
  const Scratch scratch;
  const auto path = scratch.folder / "events.jsonl";
  std::ofstream(path) << "{\"seq\":0,\"event\":\"started\"}\n{\"seq\":1,\"ev";
  EventLog log(path);
  log.write("finished");
  const std::vector<Json> lines = lines_of(path);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_TRUE(lines[1].is_discarded());
  EXPECT_EQ(lines[2]["seq"], 2);
}

TEST(EventLog, OfOtherRanksWritesNothing) {
  EventLog log;
  log.write("started");  // must not throw, and has no file
}

// Guards: a torn last line is waited for, garbage is stepped over, nothing is told twice.
TEST(EventReader, WaitsForWholeLines) {
  const Scratch scratch;
  const auto path = scratch.folder / "events.jsonl";
  EventReader reader(path);
  EXPECT_TRUE(reader.read().empty());
  std::ofstream file(path);
  file << R"({"event": "started"})"
       << "\n\x01garbage\n[1]\n"
       << R"({"event": "pro)" << std::flush;
  ASSERT_EQ(reader.read().size(), 1u);
  EXPECT_TRUE(reader.read().empty());
  file << R"(gress"})"
       << "\n"
       << std::flush;
  const auto events = reader.read();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0]["event"], "progress");
}

// Guards: a long file comes in bounded pieces, and all of it; a line without a number cannot be handed on.
TEST(EventReader, ReadsInPieces) {
  const Scratch scratch;
  const auto path = scratch.folder / "events.jsonl";
  {
    EventLog log(path);
    for (int i = 0; i < 2000; ++i) log.write("step", {{"step", i}, {"loss", 0.25}});
  }
  std::ofstream(path, std::ios::app) << "{\"event\":\"step\"}\n";
  EventReader reader(path, 3);
  std::vector<EventLine> all;
  int pieces = 0;
  for (auto lines = reader.read_lines(20'000); !lines.empty(); lines = reader.read_lines(20'000), ++pieces)
    all.insert(all.end(), lines.begin(), lines.end());
  EXPECT_GT(pieces, 3);
  ASSERT_EQ(all.size(), 2000u);
  EXPECT_EQ(all.back().sequence, 1999);
  EXPECT_EQ(all.back().attempt, 3);
  EventReader late(path);
  late.start_near_end(500);
  EXPECT_THAT(late.read_lines().size(), testing::AllOf(testing::Gt(0u), testing::Lt(10u)));
}

TEST(Events, AreToldInALine) {
  const auto told = [](const char* event) { return describe_event(Json::parse(event)); };
  EXPECT_EQ(told(R"({"event": "progress", "done": 12, "total": 48, "unit": "images"})"), "12/48 images");
  EXPECT_EQ(told(R"({"event": "step", "phase": "main", "epoch": 2, "epoch_step": 3, "steps": 8, "loss": 0.41})"),
            "main epoch 2 step 3/8 loss 0.4100");
  EXPECT_EQ(told(R"({"event": "epoch", "phase": "main", "epoch": 2, "loss": 0.5})"), "main epoch 2 ended, loss 0.5000");
  EXPECT_EQ(told(R"({"event": "started"})"), "");
  EXPECT_EQ(told(R"({"event": "progress", "done": "x"})"), "?/? ");
}

TEST(Events, SayHowMuchIsDone) {
  const auto done = [](const char* event) { return progress_fraction(Json::parse(event)); };
  EXPECT_EQ(done(R"({"event": "progress", "done": 12, "total": 48})"), 0.25);
  EXPECT_EQ(done(R"({"event": "step", "epoch": 2, "epochs": 4, "epoch_step": 4, "steps": 8})"), 0.375);
  EXPECT_EQ(done(R"({"event": "epoch", "epoch": 2, "epochs": 4})"), 0.5);
  EXPECT_EQ(done(R"({"event": "progress", "done": 12})"), 0);
  EXPECT_EQ(done(R"({"event": "progress", "done": 50, "total": 48})"), 1);
}

}  // namespace
}  // namespace filo
