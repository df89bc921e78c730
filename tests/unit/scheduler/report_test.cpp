#include "scheduler/report/report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler/report/formats.hpp"
#include "scheduler/report/logs.hpp"
#include "scheduler/report/plan_summary.hpp"
#include "scheduler/report/status.hpp"
#include "tests/unit/support/scratch.hpp"

namespace filo {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Every stage done; the evaluation's image AUROC is 0.5 + 0.1 * its number.
void complete(const Workspace& workspace, const Plan& plan) {
  save_plan(plan, workspace);
  int evaluations = 0;
  for (const auto& stage : plan.stages) {
    workspace.make_attempt(stage.key);
    Json metrics = Json::object(), artifacts = Json::object();
    if (stage.kind == StageKind::train) artifacts = {{"checkpoint", "checkpoint"}};
    if (stage.kind == StageKind::evaluate) {
      metrics = {{"image_auroc", 0.5 + 0.1 * evaluations++},
                 {"pixel_auroc", 0.9},
                 {"untrained", {{"image_auroc", 0.48}, {"pixel_auroc", 0.51}}},
                 {"classes", {{"<b>bolt</b>", {{"image_auroc", 0.75}}}}}};
      artifacts = {{"heat_maps/bolt/1.png", "heat_maps/bolt/1.png"}};
      std::filesystem::create_directories(workspace.stage_folder(stage.key) / "heat_maps/bolt");
      write_file_atomically(workspace.stage_folder(stage.key) / "heat_maps/bolt/1.png", "PNG");
    }
    write_result(workspace, stage.key, stage.kind, 1, metrics, artifacts);
  }
}

struct Case {
  const char* more;      // of the experiment
  const char* expected;  // Markdown
};
void PrintTo(const Case& shown, std::ostream* out) { *out << (*shown.more == '\0' ? "no tables" : shown.more); }
class Tables : public ::testing::TestWithParam<Case> {};

// Guards: which trial stands in which cell.
TEST_P(Tables, AreAsDrawn) {
  const Scratch scratch;
  scratch.add_all();
  const Workspace workspace = scratch.workspace();
  const Plan plan = make_plan(scratch.experiment(GetParam().more), workspace);
  complete(workspace, plan);
  EXPECT_EQ(report_text(workspace, plan, ReportFormat::markdown), GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, Tables,
    ::testing::Values(Case{"",
                           "### test (%)\n\n"
                           "|  | a->b image AUROC | a->b pixel AUROC | b->a image AUROC | b->a pixel AUROC |\n"
                           "|---|---:|---:|---:|---:|\n"
                           "| trained | 50.0 | 90.0 | 60.0 | 90.0 |\n"
                           "| untrained | 48.0 | 51.0 | 48.0 | 51.0 |\n"},
                      Case{"tables: [{title: 'A|B', rows: fold, columns: '', metrics: [image_auroc]}]\n",
                           "### A|B (%)\n\n"
                           "| fold | image AUROC |\n"
                           "|---|---:|\n"
                           "| a->b | 50.0 |\n"
                           "| b->a | 60.0 |\n"
                           "| a->b, untrained | 48.0 |\n"
                           "| b->a, untrained | 48.0 |\n"},
                      Case{"seeds: [1, 2]\ntables: [{metrics: [image_auroc]}]\n",
                           "### test (%)\n\n"
                           "|  | a->b image AUROC | b->a image AUROC |\n"
                           "|---|---:|---:|\n"
                           "| trained | 60.0 ± 14.1 | 70.0 ± 14.1 |\n"
                           "| untrained | 48.0 ± 0.0 | 48.0 ± 0.0 |\n"},
                      Case{"axes: {model.prompts.filter: [true, false]}\n"
                           "tables: [{rows: model.prompts.filter, metrics: [image_auroc, aupro]}]\n",
                           "### test (%)\n\n"
                           "| filter | a->b image AUROC | a->b AUPRO | b->a image AUROC | b->a AUPRO |\n"
                           "|---|---:|---:|---:|---:|\n"
                           "| true | 50.0 | - | 60.0 | - |\n"
                           "| false | **70.0** | - | **80.0** | - |\n"
                           "| untrained | 48.0 ± 0.0 | - | 48.0 ± 0.0 | - |\n"}));

// Two trials of one fold, zero-shot and few-shot; the second has no AUPRO.
struct WithIntervals {
  Scratch scratch;
  Plan plan;
  Workspace workspace;
  explicit WithIntervals(const std::string& more = "") : workspace((scratch.add_all(), scratch.workspace())) {
    plan = make_plan(scratch.experiment("include: [{name: zero-shot}, {name: 4-shot, evaluate.shots: 4}]\n"
                                        "exclude: [{fold: b->a}]\n" +
                                        more),
                     workspace);
    save_plan(plan, workspace);
    const Json zero = {{"image_auroc", 0.931},
                       {"aupro", 0.7},
                       {"intervals", {{"image_auroc", {0.9176, 0.9424}}, {"aupro", {0.65, 0.75}}}}};
    const Json four = {{"image_auroc", 0.95},
                       {"aupro", nullptr},
                       {"intervals", {{"image_auroc", {0.94, 0.96}}}},
                       {"reasons", {{"aupro", "undefined in every class"}}},
                       {"classes",
                        {{"bolt",
                          {{"aupro", nullptr},
                           {"reasons", {{"aupro", "no anomalous image"}}},
                           {"defects", {{"bent", {{"image_auroc", 0.875}, {"images", 8}}}}}}}}}};
    write(0, zero);
    write(1, four);
  }
  void write(std::size_t trial, const Json& metrics) {
    workspace.make_attempt(plan.trials[trial].evaluate);
    write_result(workspace, plan.trials[trial].evaluate, StageKind::evaluate, 1, metrics);
  }
  std::string report(ReportFormat format) const { return report_text(workspace, plan, format); }
};
const char* const two_rows = "tables: [{rows: name, metrics: [image_auroc, aupro]}]\n";

// Guards: how sure a number is stands beside it, and why there is none below the table, in every format.
TEST(Report, ShowsIntervalsAndReasons) {
  const WithIntervals results(two_rows);
  EXPECT_EQ(results.report(ReportFormat::terminal),
            "test (%, [95 % intervals])\n"
            "name        a->b image AUROC         a->b AUPRO\n"
            "zero-shot  93.1 [91.8, 94.2]  70.0 [65.0, 75.0]\n"
            "4-shot     95.0 [94.0, 96.0]                  -\n"
            "-: undefined in every class (4-shot a->b AUPRO)\n");
  EXPECT_THAT(results.report(ReportFormat::markdown), HasSubstr("| 4-shot | **95.0 [94.0, 96.0]** | - |\n"));
  EXPECT_THAT(results.report(ReportFormat::latex),
              HasSubstr("zero-shot & 93.1 {\\scriptsize [91.8, 94.2]} & 70.0 {\\scriptsize [65.0, 75.0]} \\\\"));
  EXPECT_THAT(results.report(ReportFormat::csv),
              HasSubstr("name,a->b image AUROC,a->b image AUROC standard deviation,a->b image AUROC 95% low,"));
  EXPECT_THAT(results.report(ReportFormat::csv), HasSubstr("4-shot,95.0,,94.0,96.0,,,,,,undefined in every class\r\n"));
  const Json cells = report_json(results.workspace, results.plan)["tables"][0]["rows"][1]["cells"];
  EXPECT_EQ(cells[0]["interval"], Json({94.0, 96.0}));
  EXPECT_EQ(cells[0]["reason"], Json());
  EXPECT_EQ(cells[1]["interval"], Json());
  EXPECT_EQ(cells[1]["reason"], "undefined in every class");
  const std::string page = results.report(ReportFormat::html);
  EXPECT_THAT(page, HasSubstr("93.1 [91.8, 94.2]"));
  EXPECT_THAT(page, HasSubstr("-: no anomalous image (bolt AUPRO)"));
  EXPECT_THAT(page, HasSubstr("<th scope=\"row\">bolt, bent (8)</th><td>87.5</td><td>-</td><td>-</td>"));
}

// Guards: over repeats the standard deviation tells, not one trial's interval.
TEST(Report, RepeatsShowTheirDeviationAlone) {
  WithIntervals results("seeds: {evaluate: [0, 1]}\n" + std::string(two_rows));
  results.write(2, {{"image_auroc", 0.95}, {"intervals", {{"image_auroc", {0.94, 0.96}}}}});
  results.write(3, {{"image_auroc", 0.97}, {"intervals", {{"image_auroc", {0.96, 0.98}}}}});
  EXPECT_THAT(results.report(ReportFormat::markdown), HasSubstr("| 4-shot | **96.0 ± 1.4** |"));
}

// Guards: rows that are folds do not compete, and each has its own untrained model beside it.
TEST(Report, NamedRowsOfFoldsHaveTheirOwnUntrainedModel) {
  const Scratch scratch;
  scratch.add_all();
  const Workspace workspace = scratch.workspace();
  const Plan plan =
      make_plan(scratch.experiment("tables: [{columns: '', metrics: [image_auroc], rows: ["
                                   "{name: one, where: {fold: a->b}}, {name: two, where: {fold: b->a}}]}]\n"),
                workspace);
  complete(workspace, plan);
  EXPECT_EQ(report_text(workspace, plan, ReportFormat::markdown),
            "### test (%)\n\n|  | image AUROC |\n|---|---:|\n| one | 50.0 |\n| two | 60.0 |\n"
            "| one, untrained | 48.0 |\n| two, untrained | 48.0 |\n");
}

// Guards: the folder holds the four files and the pictures; the page needs nothing from outside and escapes names.
TEST(Report, IsSelfContained) {
  const Scratch scratch;
  scratch.add_all();
  const Workspace workspace = scratch.workspace();
  const Plan plan = make_plan(scratch.experiment(), workspace);
  complete(workspace, plan);
  const std::string train = plan.trials[0].train;
  write_file_atomically(workspace.events_file(train, 1), R"({"event": "step", "phase": "main", "step": 1, "loss": 2.5})"
                                                         "\n"
                                                         R"({"event": "step", "phase": "main", "step": 2, "loss": 1.5})"
                                                         "\n");
  const auto folder = write_report(workspace, plan);
  const std::string page = read_file(folder / "report.html");
  EXPECT_THAT(page, HasSubstr("<polyline"));
  EXPECT_THAT(page, HasSubstr("prefers-color-scheme: dark"));
  EXPECT_THAT(page, HasSubstr("&lt;b&gt;bolt&lt;/b&gt;"));
  EXPECT_THAT(page, Not(HasSubstr("http")));
  EXPECT_THAT(page, HasSubstr((workspace.stage_folder(train) / "checkpoint").string()));
  const std::string picture = "heat_maps/" + plan.trials[0].evaluate + "/heat_maps/bolt/1.png";
  EXPECT_THAT(page, HasSubstr("src=\"" + picture + "\""));
  EXPECT_EQ(read_file(folder / picture), "PNG");
  EXPECT_EQ(read_json(folder / "results.json")["trials"][1]["metrics"]["image_auroc"], 0.6);
  EXPECT_THAT(read_file(folder / "results.csv"), HasSubstr("trained,50.0,,90.0,,60.0,,90.0,\r\n"));
  EXPECT_THAT(read_file(folder / "results.md"), HasSubstr("| trained | 50.0 |"));
  EXPECT_EQ(write_report(workspace, plan), folder) << "a second report replaces the first";
}

TEST(Report, ShowsWhatIsMissing) {
  const Scratch scratch;
  scratch.add_all();
  const Workspace workspace = scratch.workspace();
  const Plan plan = make_plan(scratch.experiment(), workspace);
  save_plan(plan, workspace);
  EXPECT_THAT(report_text(workspace, plan, ReportFormat::markdown), HasSubstr("| trained | - | - | - | - |"));
  EXPECT_THAT(report_text(workspace, plan, ReportFormat::html), HasSubstr("0 of 2 trials have a result"));
}

// Guards: the estimate goes by what ran here, in proportion to the work, and says what it goes by.
TEST(PlanSummary, EstimatesFromPastStages) {
  const Scratch scratch;
  scratch.add_all();
  const Workspace workspace = scratch.workspace();
  const Json before = plan_summary(workspace, make_plan(scratch.experiment(), workspace));
  EXPECT_EQ(before["kinds"][1]["basis"], "arithmetic");
  EXPECT_THAT(plan_summary_text(before), HasSubstr("arithmetic alone"));
  complete(workspace, make_plan(scratch.experiment(), workspace));  // 2 s each, on one thread
  const auto summary = [&](const std::string& more) {
    return plan_summary(workspace, make_plan(scratch.experiment("resources: {ranks: 1}\n" + more), workspace));
  };
  const Json other_seed = summary("train: {seed: 5}\n");
  EXPECT_EQ(other_seed["stages_done"], 2);                         // the features
  EXPECT_NEAR(other_seed["estimate_s"].get<double>(), 8.0, 1e-6);  // two trainings and two evaluations of 2 s
  EXPECT_EQ(other_seed["kinds"][1]["basis"], "experience");
  const Json longer = summary("train: {main: {epochs: 30}}\n");
  EXPECT_NEAR(longer["kinds"][1]["seconds"].get<double>(), 8.0, 0.5);  // twice the epochs
}

// Guards: the size of features is that of the shards: 4 + 3 stages of 37 x 37 patches of 1024 halves, a mask, a vector.
TEST(PlanSummary, BytesOfFeaturesAreThoseOfTheShards) {
  const Scratch scratch;
  scratch.add_all();
  const auto bytes_with = [&](const std::string& axes) {
    const Json summary = plan_summary(
        scratch.workspace(),
        make_plan(scratch.experiment("axes: {model.image_size: [518]" + axes + "}\n"), scratch.workspace()));
    return summary["kinds"][0]["bytes"].get<double>();
  };
  const double map = 1369 * 1024, rest = 518.0 * 518 / 8 + 768 * 4;
  EXPECT_EQ(bytes_with(""), 4 * (7 * 2 * map + rest));
  EXPECT_EQ(bytes_with(", model.feature_type: [f32]"), 4 * (7 * 4 * map + rest));
  EXPECT_EQ(bytes_with(", model.feature_type: [int8]"), 4 * (7 * (map + 4 * 1369) + rest));
}

// Guards people who compare with FiLo's published numbers from results of versions that ran it on quick_gelu.
TEST(Report, ResultsOfAnotherActivationAreSaidToBe) {
  const Scratch scratch;
  scratch.add_all();
  const Workspace workspace = scratch.workspace();
  Plan plan = make_plan(scratch.experiment(), workspace);
  const auto said = [&](const std::string& profile, int image_size) {
    plan.experiment = {{"model", {{"profile", profile}, {"image_size", image_size}, {"clip", "/nowhere"}}}};
    const std::string status = status_text(workspace, plan, observe(workspace, plan), 0);
    const std::string report = report_text(workspace, plan, ReportFormat::markdown);
    EXPECT_EQ(status.find("exact GELU") == std::string::npos, report.find("exact GELU") == std::string::npos);
    return status.find("exact GELU") != std::string::npos;
  };
  EXPECT_TRUE(said("filo-release", 518));
  EXPECT_FALSE(said("filo-release", 336));  // the weights' own size: the loader keeps what they say
  EXPECT_FALSE(said("paper", 518));
  plan.experiment = nullptr;  // a plan that is no experiment's, as the benchmark makes them
  EXPECT_THAT(status_text(workspace, plan, observe(workspace, plan), 0), Not(HasSubstr("exact GELU")));
  plan.experiment = make_plan(scratch.experiment(), workspace).experiment;
  EXPECT_TRUE(plan.experiment["model"].contains("clip_activation"));
}

TEST(Logs, StagesAreFoundByTheirFirstDigits) {
  const Scratch scratch;
  const Workspace workspace = scratch.workspace();
  workspace.create_stage("aa00000000000000", Json::object());
  workspace.create_stage("ab00000000000000", Json::object());
  EXPECT_EQ(find_stage(workspace, "ab"), "ab00000000000000");
  EXPECT_THAT(error_of([&] { find_stage(workspace, "a"); }), HasSubstr("found 2 stages"));
  EXPECT_THAT(error_of([&] { find_stage(workspace, "../x"); }), HasSubstr("found none"));
}

}  // namespace
}  // namespace filo
