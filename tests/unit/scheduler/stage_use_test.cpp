// What finished stages used of what they asked for, and what the next ones ask for.
#include "scheduler/report/stage_use.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler/executors/slurm_commands.hpp"
#include "tests/unit/support/scratch.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* small = "resources: {ranks: 1, memory: 32G}\n";

class StageUseTest : public ::testing::Test {
 protected:
  StageUseTest() { scratch.add_all(); }

  Plan plan(const std::string& more = "") const { return make_plan(scratch.experiment(small + more), workspace); }

  // Every stage done in two seconds, having told of its use: a training took 3 GiB, all others one.
  void complete(const Plan& finished) const {
    save_plan(finished, workspace);
    for (const auto& stage : finished.stages) {
      workspace.make_attempt(stage.key);
      const double gibibytes = stage.kind == StageKind::train ? 3 : 1;
      write_file_atomically(workspace.events_file(stage.key, 1),
                            Json{{"event", "used"}, {"cpu_s", 3}, {"memory_bytes", gibibytes * (1 << 30)}}.dump() +
                                "\n" + R"({"event": "finished"})" + "\n");
      write_result(workspace, stage.key, stage.kind, 1);
    }
  }

  static std::string row(const Workspace& where, const Plan& of, const std::string& kind) {
    const std::string text = resource_report(where, of, ReportFormat::csv);
    const auto at = text.find("\n" + kind + ",") + 1;
    return text.substr(at, text.find('\r', at) - at);
  }

  Scratch scratch;
  Workspace workspace = scratch.workspace();
};

TEST_F(StageUseTest, IsSetAgainstWhatWasAskedFor) {
  const Plan finished = plan();
  complete(finished);
  EXPECT_EQ(
      row(workspace, finished, "train"),
      "train,2,32G,3.00 GiB,1,1.5,01:00:00,00:00:02,-,-,-,\"3840M instead of 32G, 00:10:00 instead of 01:00:00\"");
  EXPECT_THAT(resource_report(workspace, finished, ReportFormat::markdown),
              HasSubstr("resources: used of what was asked"));
  const Json json = Json::parse(resource_report(workspace, finished, ReportFormat::json));
  EXPECT_EQ(json["stages"].size(), finished.stages.size());
  EXPECT_EQ(json["stages"][0]["cpu_s"], 3);
  EXPECT_TRUE(json["stages"][0]["energy_j"].is_null());
  EXPECT_THAT(report_text(workspace, finished, ReportFormat::html), HasSubstr("3840M instead of 32G"));
}

TEST_F(StageUseTest, OfAVersionThatDidNotTellIsADash) {
  const Plan finished = plan();
  complete(finished);
  for (const auto& stage : finished.stages) fs::remove(workspace.events_file(stage.key, 1));
  EXPECT_EQ(row(workspace, finished, "train"),
            "train,2,32G,-,1,-,01:00:00,00:00:02,-,-,-,00:10:00 instead of 01:00:00");
  Plan next = plan("seeds: [7]\n");
  EXPECT_THAT(learn_resources(workspace, next), IsEmpty()) << "nothing is known of their memory";
}

// Guards: what sacct prints is added where it is more; a job's steps count for the job; no sacct, no trouble.
TEST_F(StageUseTest, SlurmsAccountingAddsWhatItKnows) {
  const Plan finished = plan();
  complete(finished);
  const std::string training = finished.trials[0].train;
  workspace.write_claim(training, 1, {{"executor", "slurm c"}, {"batch", "filo-x"}, {"index", 0}});
  write_file_atomically(workspace.exit_file(training, 1), "17 0 0 n1 2\n");
  workspace.write_active(
      {.name = finished.name,
       .executor = "slurm",
       .cluster = scratch.write("c.yaml", "name: c\nslurm_bin: " + (scratch.folder / "bin").string() + "\n")});
  EXPECT_THAT(row(workspace, finished, "train"), HasSubstr(",3.00 GiB,1,1.5,")) << "there is no sacct";
  scratch.write("bin/sacct",
                "#!/bin/bash\necho \"$@\" >\"$0.arguments\"\n"
                "echo '17|2|00:04.500||||7200000'\n"
                "echo '17.batch|2|00:00.500|1000K|cpu=00:00:00,mem=1000K|cpu=00:00:00,mem=1000K|0'\n"
                "echo '17.0|2|00:04.000|4194304K|cpu=00:00:04,gres/gpumem=2G,mem=8388608K|gres/gpuutil=85|7200000'\n"
                "echo '18|9999|10-00:00:00||||'\n");
  fs::permissions(scratch.folder / "bin/sacct", fs::perms::owner_all);
  const Json json = Json::parse(resource_report(workspace, finished, ReportFormat::json));
  EXPECT_THAT(read_file(scratch.folder / "bin/sacct.arguments"), HasSubstr("--jobs=17 "));
  for (const auto& stage : json["stages"]) {
    if (stage["key"] != training) continue;
    EXPECT_EQ(stage["cpu_s"], 4);
    EXPECT_EQ(stage["memory_bytes"], 8.0 * (1u << 30));
    EXPECT_EQ(stage["gpu_memory_bytes"], 2.0 * (1u << 30));
    EXPECT_EQ(stage["gpu_use"], 0.85);
    EXPECT_EQ(stage["energy_j"], 7.2e6);
  }
  EXPECT_THAT(row(workspace, finished, "train"),
              HasSubstr("8.00 GiB,1,1.8,01:00:00,00:00:02,-,85 %,2 kWh,\"10G instead of 32G"));
}

// Guards: stages that differ in seed or epochs learn from each other, those of another model or data set do not, and
// time goes by the work that there is to do.
TEST_F(StageUseTest, StagesLearnFromThoseLikeThem) {
  complete(plan("train: {main: {epochs: 1}, adapter: {epochs: 0}}\n"));
  Plan next = plan("seeds: [7]\ntrain: {main: {epochs: 1000}, adapter: {epochs: 0}}\n");
  EXPECT_THAT(learn_resources(workspace, next),
              ElementsAre("evaluate: 1280M instead of 32G, 00:10:00 instead of 01:00:00 (2 stages)",
                          AllOf(HasSubstr("train: 3840M instead of 32G, "), HasSubstr(" (2 stages)"))));
  for (const auto& stage : next.stages) {
    if (stage.kind != StageKind::train) continue;
    EXPECT_EQ(stage.resources.memory, "3840M");
    const auto seconds = static_cast<double>(time_in_seconds(stage.resources.time));
    EXPECT_GT(seconds, 2 * 2 * 300);  // a thousand epochs, and one pass before them
    EXPECT_LT(seconds, 2 * 2 * 1100);
  }
  Plan other = plan("axes: {model.layers: [[6, 12]]}\n");
  EXPECT_THAT(learn_resources(workspace, other), IsEmpty());
  Plan two_ranks = make_plan(scratch.experiment("resources: {ranks: 2}\nseeds: [7]\n"), workspace);
  EXPECT_THAT(learn_resources(workspace, two_ranks), IsEmpty());
}

TEST(ProposedResources, AreRoundedUp) {
  const ResourceSettings asked{.memory = "32G", .time = "10:00:00"};
  EXPECT_EQ(proposed_resources(asked, 1, 1).memory, "512M");
  EXPECT_EQ(proposed_resources(asked, 5.0 * (1u << 30), 1).memory, "6400M");
  EXPECT_EQ(proposed_resources(asked, 1, 3600).time, "02:00:00");
  EXPECT_EQ(proposed_resources(asked, 1, 3601).time, "02:10:00");
  EXPECT_EQ(proposed_resources(asked, 0, 0).memory, "32G");
  EXPECT_EQ(proposed_resources(asked, 0, 0).time, "10:00:00");
}

}  // namespace
}  // namespace filo
