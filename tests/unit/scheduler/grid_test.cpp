// Grids: named points, folds over several data sets, boxes, included experiments, tables beside the paper's numbers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>

#include "base/hash.hpp"
#include "scheduler/report/formats.hpp"
#include "scheduler/report/plan_summary.hpp"
#include "scheduler/report/report.hpp"
#include "tests/unit/support/scratch.hpp"
#include "workspace/artifacts.hpp"

namespace filo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const PlannedStage* stage_of(const Plan& plan, StageKind kind, std::size_t number = 0) {
  for (const auto& stage : plan.stages)
    if (stage.kind == kind && number-- == 0) return &stage;
  return nullptr;
}

std::size_t count(const Plan& plan, StageKind kind) {
  return static_cast<std::size_t>(
      std::count_if(plan.stages.begin(), plan.stages.end(), [&](const auto& stage) { return stage.kind == kind; }));
}

void finish_trial(const Workspace& workspace, const PlannedTrial& trial, double image_auroc) {
  workspace.make_attempt(trial.evaluate);
  write_result(workspace, trial.evaluate, StageKind::evaluate, 1, {{"image_auroc", image_auroc}, {"pixel_auroc", 0.9}});
}

// Guards: a spec in parts has the key of the whole.
TEST(StageSpecs, KeyIsThatOfTheWholeSpec) {
  const Scratch scratch;
  scratch.add_all();
  const Plan plan = make_plan(scratch.experiment(), scratch.workspace());
  for (const auto& stage : plan.stages) EXPECT_EQ(stage_key(stage.spec.json()), stage.key) << stage.label;
}

// Guards: trained on several data sets: their features in order, all their classes, none of the tested one.
TEST(Folds, TrainingOnSeveralDataSetsNeedsTheFeaturesOfEach) {
  const Scratch scratch;
  scratch.add_all();
  scratch.add_dataset("fabrics", "cccccccccccccccc", "carpet");
  const Experiment experiment = load_experiment(scratch.write(
      "three.yaml", "name: three\ndata: {p: parts, b: boards, f: fabrics}\nfolds: leave-one-out\nmodel: {clip: " +
                        (scratch.folder / "clip").string() + ", image_size: 112, prompts: {descriptions: none}}\n"));
  const Plan plan = make_plan(experiment, scratch.workspace());
  EXPECT_EQ(plan.trials.size(), 3u);
  EXPECT_EQ(count(plan, StageKind::features), 3u);
  const PlannedStage& train = plan.stage(plan.trials[0].train);
  const Json spec = train.spec.json();
  EXPECT_EQ(train.label, "train boards+fabrics");
  EXPECT_EQ(spec["datasets"][0]["name"], "boards");
  EXPECT_EQ(spec["datasets"][1]["name"], "fabrics");
  EXPECT_FALSE(spec.contains("dataset"));
  EXPECT_EQ(plan.stage(spec["inputs"]["features"]).label, "features boards");
  EXPECT_EQ(plan.stage(spec["inputs"]["features.2"]).label, "features fabrics");
  EXPECT_EQ(spec["descriptions"]["classes"].size(), 2u);
  EXPECT_EQ(train.inputs.size(), 2u);
  const Json evaluate = plan.stage(plan.trials[0].evaluate).spec.json();
  EXPECT_EQ(evaluate["train_datasets"].size(), 2u);
  EXPECT_EQ(evaluate["dataset"]["name"], "parts");
  scratch.add_dataset("fabrics", "aaaaaaaaaaaaaaaa", "carpet");
  EXPECT_THAT(error_of([&] { make_plan(experiment, scratch.workspace()); }),
              HasSubstr("found the same images under the names"));
}

// Guards: data sets that differ but hold the same photos: trained on and tested, which nobody would see in the numbers.
TEST(Folds, RefuseImagesThatAreTrainedOnAndTested) {
  const Scratch scratch;
  scratch.add_all();
  scratch.add_dataset("parts", "aaaaaaaaaaaaaaaa", "bolt", {"own", "one", "two", "three", "four"});
  scratch.add_dataset("boards", "bbbbbbbbbbbbbbbb", "board", {"four", "three", "two", "one", "other"});
  const Workspace workspace = scratch.workspace();
  EXPECT_THAT(error_of([&] { make_plan(scratch.experiment(), workspace, 3); }),
              AllOf(HasSubstr("folds: found images of boards in parts too in fold a->b, 4 in all (board/0.png is "
                              "bolt/4.png, board/1.png is bolt/3.png, board/2.png is bolt/2.png, ...)"),
                    HasSubstr("--allow-shared 4")));
  const Plan plan = make_plan(scratch.experiment(), workspace, 4);
  ASSERT_EQ(plan.shared_images.size(), 2u);
  EXPECT_EQ(plan.shared_images[1].fold, "b->a");
  save_plan(plan, workspace);
  const Plan loaded = load_plan(workspace, plan.name);
  EXPECT_THAT(report_text(workspace, loaded, ReportFormat::markdown),
              HasSubstr("fold a->b: not all that is tested was unseen: boards has 4 of the images of parts"));
  EXPECT_EQ(report_json(workspace, loaded)["shared_images"][0],
            Json({{"fold", "a->b"}, {"train", "parts"}, {"test", "boards"}, {"images", 4}}));
}

// Guards the same photo in another file format, as conversions leave it.
TEST(Folds, RefuseImagesWhosePixelsAreTheSame) {
  const Scratch scratch;
  scratch.add_all();
  const Workspace workspace = scratch.workspace();
  for (const char* name : {"parts", "boards"}) {
    Json dataset = read_json(workspace.dataset_file(name));
    dataset["images"] = {{{"path", std::string(name) + ".png"}, {"sha256", name}, {"pixels_sha256", "picture"}}};
    write_json(workspace.dataset_file(name), dataset);
  }
  EXPECT_THAT(error_of([&] { make_plan(scratch.experiment(), workspace); }),
              HasSubstr("1 in all (boards.png is parts.png)"));
}

// Guards: one stage of boxes per data set, by content; only trainings that look at boxes depend on it.
TEST(Boxes, AreAStageThatTrainingAndEvaluationNeed) {
  const Scratch scratch;
  scratch.add_all();
  const Workspace workspace = scratch.workspace();
  const auto plan_with = [&](const std::string& more) {
    return make_plan(scratch.experiment("axes: {model.boxes.source: [file], model.boxes.file: ['" +
                                        (scratch.folder / "boxes/{data}.json").string() + "']" + more + "}\n"),
                     workspace);
  };
  EXPECT_THAT(error_of([&] { plan_with(""); }), HasSubstr("boxes/parts.json, which is no file"));
  scratch.write("boxes/parts.json", "{}");
  scratch.write("boxes/boards.json", "{\"a.png\": []}");
  const Plan plan = plan_with("");
  ASSERT_EQ(count(plan, StageKind::boxes), 2u);
  const PlannedStage& boxes = *stage_of(plan, StageKind::boxes);
  EXPECT_EQ(boxes.spec.at("boxes")["digest"], sha256_hex("{}"));
  EXPECT_EQ(boxes.spec.at("dataset")["name"], "parts");
  const Json train = plan.stage(plan.trials[0].train).spec.json();
  EXPECT_EQ(train["inputs"]["boxes"], boxes.key);
  EXPECT_FALSE(train["model"]["boxes"].contains("file"));
  EXPECT_EQ(plan.stage(plan.trials[0].evaluate).spec.json()["inputs"]["boxes"],
            stage_of(plan, StageKind::boxes, 1)->key);

  // Without positions from boxes the training is the one without boxes.
  const Plan unplaced = plan_with(", model.prompts.positions: [none]");
  const Plan without = make_plan(scratch.experiment("axes: {model.prompts.positions: [none]}\n"), workspace);
  EXPECT_EQ(unplaced.trials[0].train, without.trials[0].train);
  EXPECT_NE(unplaced.trials[0].evaluate, without.trials[0].evaluate);

  // Moved boxes are the same boxes; other boxes are others.
  scratch.write("moved/parts.json", "{}");
  scratch.write("moved/boards.json", "{\"a.png\": []}");
  const auto moved = [&] {
    return make_plan(scratch.experiment("axes: {model.boxes.source: [file], model.boxes.file: ['" +
                                        (scratch.folder / "moved/{data}.json").string() + "']}\n"),
                     workspace);
  };
  EXPECT_EQ(moved().trials[0].evaluate, plan.trials[0].evaluate);
  scratch.write("moved/parts.json", "{\"b.png\": []}");
  EXPECT_NE(moved().trials[0].evaluate, plan.trials[0].evaluate);

  EXPECT_THAT(
      error_of([&] { make_plan(scratch.experiment("axes: {model.boxes.source: [grounding-dino]}\n"), workspace); }),
      HasSubstr("found grounding-dino, which no stage runs yet"));
  EXPECT_THAT(error_of([&] { make_plan(scratch.experiment("axes: {model.boxes.source: [file]}\n"), workspace); }),
              HasSubstr("model.boxes.file: found nothing"));
}

// Guards: experiments that are included share stages, and their tables show their own trials only.
TEST(Included, ExperimentsShareStagesAndKeepTheirTables) {
  const Scratch scratch;
  scratch.add_all();
  const Workspace workspace = scratch.workspace();
  const std::string head =
      "data: {a: parts, b: boards}\nfolds: [{train: a, test: b}]\nmodel: {clip: " + (scratch.folder / "clip").string() +
      ", image_size: 112, prompts: {descriptions: none}}\n";
  scratch.write("one.yaml", "name: one\n" + head + "tables: [{title: One, rows: '', metrics: [image_auroc]}]\n");
  scratch.write("two.yaml", "name: two\n" + head + "axes: {evaluate.gaussian_sigma: [2, 4]}\n");
  const Plan plan =
      make_plan(load_experiment(scratch.write("all.yaml", "name: all\ninclude: [one.yaml, two.yaml]\n")), workspace);
  EXPECT_EQ(plan.trials.size(), 3u);
  EXPECT_EQ(count(plan, StageKind::train), 1u);
  EXPECT_EQ(count(plan, StageKind::evaluate), 2u);  // sigma 4 is the default
  save_plan(plan, workspace);
  finish_trial(workspace, plan.trials[0], 0.75);
  EXPECT_EQ(report_text(workspace, load_plan(workspace, "all"), ReportFormat::markdown),
            "### One (%)\n\n|  | a->b image AUROC |\n|---|---:|\n| trained | 75.0 |\n\n"
            "### two (%)\n\n|  | a->b image AUROC | a->b pixel AUROC |\n|---|---:|---:|\n"
            "| gaussian_sigma=2.0 | - | - |\n| gaussian_sigma=4.0 | 75.0 | 90.0 |\n");
}

const char* const paper_table = R"(
include: [{name: without, model.prompts.filter: false}, {name: ours}]
seeds: [1, 2]
tables:
  - title: T & Co
    rows: [CLIP_AC, without, {name: ours, where: {name: ours}, note: 50% more}]
    metrics: [image_auroc]
    note: of the paper
    paper: {CLIP_AC: {a->b: [71.5], b->a: [65]}, ours: {a->b: [92.1]}}
)";

struct PaperTable {
  Scratch scratch;
  Plan plan;
  Workspace workspace;
  PaperTable() : workspace((scratch.add_all(), scratch.workspace())) {
    plan = make_plan(scratch.experiment(paper_table), workspace);
    save_plan(plan, workspace);
    // In the plan's order: point, seed, fold. The last trial has no result yet.
    const double values[] = {0.5, 0.9, 0.6, 0.8, 0.7, 0.6, 0.8};
    for (std::size_t i = 0; i < 7; ++i) finish_trial(workspace, plan.trials[i], values[i]);
  }
};

// Guards: mean and standard deviation over seeds, the best of ours in bold, the paper's beside it, what is missing.
TEST(PaperTables, StandBesideOurs) {
  const PaperTable table;
  EXPECT_EQ(report_text(table.workspace, table.plan, ReportFormat::markdown),
            "### T & Co (%; the paper's in brackets)\n\n|  | a->b image AUROC | b->a image AUROC |\n|---|---:|---:|\n"
            "| CLIP_AC | - (71.5) | - (65.0) |\n"
            "| without | 55.0 ± 7.1 | **85.0 ± 7.1** |\n"
            "| ours <sup>a</sup> | **75.0 ± 7.1** (92.1) | 60.0 [1 of 2] |\n"
            "\nof the paper\n\na: 50% more\n");
  EXPECT_THAT(report_text(table.workspace, table.plan, ReportFormat::csv), HasSubstr("CLIP_AC,,,71.5,,,65.0\r\n"));
  const Json json = report_json(table.workspace, table.plan)["tables"][0];
  EXPECT_EQ(json["rows"][2]["cells"][0]["paper"], 92.1);
  EXPECT_EQ(json["rows"][2]["cells"][0]["best"], true);
  EXPECT_EQ(json["rows"][2]["cells"][1]["trials_done"], 1);
}

// Guards: everything that LaTeX reads as a command is escaped.
TEST(PaperTables, LatexIsEscaped) {
  const PaperTable table;
  const std::string text = report_text(table.workspace, table.plan, ReportFormat::latex);
  EXPECT_THAT(text, HasSubstr("\\caption{T \\& Co (\\%; the paper's in brackets)}"));
  EXPECT_THAT(text, HasSubstr("\\multicolumn{1}{c}{a-\\textgreater{}b}"));
  EXPECT_THAT(text, HasSubstr("CLIP\\_AC & -- (71.5) & -- (65.0) \\\\\n"));
  EXPECT_THAT(text, HasSubstr("ours\\textsuperscript{a} & \\textbf{75.0 $\\pm$ 7.1} (92.1) & 60.0 [1 of 2] \\\\\n"));
  EXPECT_THAT(text, HasSubstr("a: 50\\% more"));
  EXPECT_EQ(latex_escaped("a_b%{}\\~^#$&<>|\"--"),
            "a\\_b\\%\\{\\}\\textbackslash{}\\textasciitilde{}\\textasciicircum{}\\#\\$\\&\\textless{}\\textgreater{}"
            "\\textbar{}''-{}-");
}

TEST(PaperTables, HtmlNamesGroupsAndNotes) {
  const PaperTable table;
  const std::string page = report_text(table.workspace, table.plan, ReportFormat::html);
  EXPECT_THAT(page, HasSubstr("<caption>T &amp; Co (%; the paper&#39;s in brackets)</caption>"));
  EXPECT_THAT(page, HasSubstr("<b>75.0 ± 7.1</b> <span class=\"paper\">(92.1)</span>"));
  EXPECT_THAT(page, HasSubstr("<p class=\"note\">a: 50% more</p>"));
}

// Guards: what a base excludes is a row without values, not an error.
TEST(PaperTables, ExcludedPointsAreEmptyRows) {
  const Scratch scratch;
  scratch.add_all();
  scratch.write("size.yaml", "data: {a: parts, b: boards}\nfolds: [{train: a, test: b}]\nmodel: {clip: " +
                                 (scratch.folder / "clip").string() +
                                 ", image_size: 112, prompts: {descriptions: none}}\nexclude: [{evaluate.shots: 4}]\n");
  const Plan plan =
      make_plan(load_experiment(scratch.write("e.yaml",
                                              "name: e\nbase: size.yaml\n"
                                              "include: [{name: zero}, {name: four, evaluate.shots: 4}]\n"
                                              "tables: [{rows: [zero, four], metrics: [image_auroc]}]\n")),
                scratch.workspace());
  EXPECT_EQ(plan.trials.size(), 1u);
  save_plan(plan, scratch.workspace());
  finish_trial(scratch.workspace(), plan.trials[0], 0.5);
  EXPECT_THAT(report_text(scratch.workspace(), plan, ReportFormat::markdown),
              HasSubstr("| zero | 50.0 |\n| four | - |\n"));
}

// Guards: checkpoints are kept by content: equal ones once, and found again without being read.
TEST(Artifacts, CheckpointsAreKeptByContent) {
  const Scratch scratch;
  const Workspace workspace = scratch.workspace();
  const auto train = [&](const std::string& key, const std::string& parameters) {
    workspace.create_stage(key, {{"kind", "train"}});
    workspace.make_attempt(key);
    scratch.write("workspace/stages/" + key + "/checkpoint/params.safetensors", parameters);
    scratch.write("workspace/stages/" + key + "/checkpoint/settings.json", "{}");
    write_result(workspace, key, StageKind::train, 1, Json::object(), {{"checkpoint", "checkpoint"}});
    return collect_checkpoint(workspace, key).value();
  };
  const std::string a = train("aa00000000000000", "one"), b = train("bb00000000000000", "one"),
                    c = train("cc00000000000000", "two");
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
  EXPECT_EQ(read_file(workspace.artifact_folder(a) / "params.safetensors"), "one");
  EXPECT_EQ(kept_checkpoint(workspace, "cc00000000000000"), workspace.artifact_folder(c));
  EXPECT_EQ(collect_checkpoint(workspace, "aa00000000000000"), a);
  workspace.create_stage("dd00000000000000", {{"kind", "train"}});
  EXPECT_FALSE(collect_checkpoint(workspace, "dd00000000000000"));
}

double resident_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmRSS:")) return std::stod(line.substr(6)) / 1024;
  return 0;
}

// Guards: 100,000 trials with the descriptions of a real data set are planned in seconds, in memory that a login node
// has.
TEST(Plan, AHundredThousandTrialsFitALoginNode) {
  const Scratch scratch;
  scratch.add_all();
  std::string classes = "states: {normal: ['{}'], abnormal: ['bad {}']}\nclasses:\n";
  Json counts = Json::object();
  for (int i = 0; i < 15; ++i) {
    const std::string name = "class" + std::to_string(i);
    classes += "  " + name + ": {descriptions: [";
    for (int k = 0; k < 8; ++k)
      classes += std::string(k == 0 ? "" : ", ") + "a defect of some kind number " + std::to_string(k);
    classes += "]}\n";
    counts[name] = {{"train", 9}, {"test", 100}};
  }
  const std::string descriptions = scratch.write("classes.yaml", classes);
  for (const char* name : {"parts", "boards"})
    scratch.write(std::string("workspace/datasets/") + name + ".json",
                  Json{{"name", name}, {"digest", std::string(16, *name)}, {"classes", counts}}.dump());
  std::string seeds = "0", sigmas = "0", shots = "0";
  for (int i = 1; i < 100; ++i) seeds += ", " + std::to_string(i);
  for (int i = 1; i < 50; ++i) sigmas += ", " + std::to_string(i);
  for (int i = 1; i < 10; ++i) shots += ", " + std::to_string(i);
  const double before = resident_mb();
  const auto start = std::chrono::steady_clock::now();
  const Plan plan = make_plan(
      scratch.experiment("axes: {model.prompts.descriptions: ['" + descriptions + "'], evaluate.gaussian_sigma: [" +
                         sigmas + "], evaluate.shots: [" + shots + "]}\nseeds: [" + seeds + "]\n"),
      scratch.workspace());
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(plan.trials.size(), 100000u);
  EXPECT_EQ(plan.stages.size(), 2u + 200u + 100000u);
  const double used = resident_mb() - before;
  std::printf("planned in %.2f s, %.0f MB\n", took.count(), used);
  EXPECT_LT(took.count(), 60.0);  // a busy machine; 20 s would be bad enough
  EXPECT_LT(used, 1500);
}

}  // namespace
}  // namespace filo
