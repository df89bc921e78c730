#include "scheduler/control/search.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/random.hpp"
#include "scheduler/report/report.hpp"
#include "tests/unit/support/scratch.hpp"

namespace filo {
namespace {

using ::testing::HasSubstr;

SearchSettings asha(int reduction, int min, int max = 0) {
  SearchSettings search;
  search.method = SearchMethod::asha;
  search.reduction = reduction;
  search.min = min;
  search.max = max;
  return search;
}

// ASHA's rule said plainly, one report at a time: at a rung, gather what those before it told there, put the new one
// among them in order, and see whether it stands within the first n / reduction.
std::map<std::string, std::int64_t> plainly(const SearchSettings& search,
                                            const std::vector<MetricReport>& in_time_order) {
  std::map<std::string, std::int64_t> stopped;
  std::map<std::int64_t, std::vector<std::pair<double, std::string>>> told;  // at each rung, best first
  for (const auto& report : in_time_order) {
    if (stopped.count(report.stage) > 0) continue;
    bool rung = false;
    for (std::int64_t level = search.min; level <= report.resource; level *= search.reduction)
      rung = rung || (level == report.resource && (search.max == 0 || level < search.max));
    if (!rung) continue;
    auto& list = told[report.resource];
    bool again = false;
    for (const auto& entry : list) again = again || entry.second == report.stage;
    if (again) continue;
    const double badness =
        report.value ? (search.maximize ? -*report.value : *report.value) : std::numeric_limits<double>::infinity();
    std::size_t place = 0;
    while (place < list.size() && list[place].first <= badness) ++place;
    list.insert(list.begin() + static_cast<std::ptrdiff_t>(place), {badness, report.stage});
    const std::size_t n = list.size(), eta = static_cast<std::size_t>(search.reduction);
    if (n >= eta && place + 1 > n / eta) stopped[report.stage] = report.resource;
  }
  return stopped;
}

// Guards: the decisions are ASHA's, whatever the order of events, repeated epochs and values that are no numbers.
TEST(Asha, DecidesAsItsRuleSaidPlainly) {
  int stops = 0;
  for (std::uint64_t round = 0; round < 300; ++round) {
    Random random(round, "asha");
    SearchSettings search = asha(2 + static_cast<int>(random.below(3)), 1 + static_cast<int>(random.below(2)),
                                 random.below(2) == 0 ? 0 : 9);
    search.maximize = random.below(2) == 0;
    std::vector<MetricReport> reports;
    std::map<std::string, std::int64_t> at;
    for (int i = 0; i < 120; ++i) {
      MetricReport report{.stage = "s" + std::to_string(random.below(12)), .time = static_cast<double>(i), .value = {}};
      if (at[report.stage] == 0 || random.below(8) > 0) ++at[report.stage];  // else told twice, after a requeue
      report.resource = at[report.stage];
      if (random.below(20) > 0) report.value = static_cast<double>(random.below(10));  // with ties
      reports.push_back(report);
    }
    const auto expected = plainly(search, reports);
    std::vector<MetricReport> shuffled = reports;
    for (std::size_t i = shuffled.size(); i > 1; --i) std::swap(shuffled[i - 1], shuffled[random.below(i)]);
    std::map<std::string, std::int64_t> found;
    for (const auto& stop : asha_stops(search, shuffled)) found[stop.stage] = stop.rung;
    ASSERT_EQ(found, expected) << "round " << round;
    stops += static_cast<int>(found.size());
  }
  EXPECT_GT(stops, 1000) << "the sequences decide nothing";
}

// Guards: what was decided stays decided when more events arrive.
TEST(Asha, LaterEventsDoNotChangeEarlierDecisions) {
  Random random(1, "asha");
  std::vector<MetricReport> reports;
  for (int i = 0; i < 60; ++i)
    reports.push_back({"s" + std::to_string(i % 10), i / 10 + 1, static_cast<double>(i), random.uniform()});
  std::vector<std::string> before;
  for (std::size_t count = 1; count <= reports.size(); ++count) {
    std::vector<std::string> now;
    for (const auto& stop :
         asha_stops(asha(3, 1), {reports.begin(), reports.begin() + static_cast<std::ptrdiff_t>(count)}))
      now.push_back(stop.stage);
    ASSERT_GE(now.size(), before.size());
    EXPECT_TRUE(std::equal(before.begin(), before.end(), now.begin()));
    before = now;
  }
  EXPECT_FALSE(before.empty());
}

TEST(Asha, RungsArePowersBelowTheMaximum) {
  EXPECT_EQ(rungs(asha(3, 1), 30), (std::vector<std::int64_t>{1, 3, 9, 27}));
  EXPECT_EQ(rungs(asha(2, 3, 12), 30), (std::vector<std::int64_t>{3, 6}));
}

// A search of four draws whose trainings told `losses` after epochs 1, 2, ... of the main phase.
struct SearchScratch {
  Scratch scratch;
  Plan plan;

  explicit SearchScratch(const std::vector<std::vector<double>>& losses, const std::string& more = "") {
    scratch.add_all();
    const Workspace workspace = scratch.workspace();
    plan = make_plan(scratch.experiment("train: {main: {epochs: 10}}\nexclude: [{fold: b->a}]\n"
                                        "search:\n  method: asha\n  max_trials: " +
                                        std::to_string(losses.size()) +
                                        "\n  max_concurrent: 2\n  asha: {reduction: 2}\n"
                                        "  space: {train.main.learning_rate.mdci: {log_uniform: [1.0e-5, 1.0e-1]}}\n" +
                                        more),
                     workspace);
    save_plan(plan, workspace);
    double time = 0;
    for (std::size_t epoch = 1; epoch <= 10; ++epoch)
      for (std::size_t i = 0; i < losses.size(); ++i)
        if (epoch <= losses[i].size()) tell(i, epoch, losses[i][epoch - 1], ++time);
  }

  void tell(std::size_t trial, std::size_t epoch, double loss, double time) const {
    const Workspace workspace = scratch.workspace();
    const std::string key = plan.trials[trial].train;
    if (workspace.newest_attempt(key) == 0) workspace.make_attempt(key);
    std::string& text = told[key];
    text += Json{{"event", "step"}, {"phase", "main"}, {"epoch", epoch}, {"step", epoch}, {"loss", -1}}.dump() + "\n" +
            Json{{"event", "epoch"}, {"phase", "main"}, {"epoch", epoch}, {"loss", loss}, {"time", time}}.dump() +
            "\n" +
            Json{{"event", "epoch"}, {"phase", "adapter"}, {"epoch", epoch}, {"loss", 0}, {"time", time}}.dump() + "\n";
    write_file_atomically(workspace.events_file(key, 1), text);
  }
  mutable std::map<std::string, std::string> told;
};

// Guards: decisions come from the epochs of the main phase in events.jsonl, and are made once.
TEST(Search, StopsTrainingsThatFallBehind) {
  const SearchScratch search({{0.5, 0.4}, {0.9}, {0.3, 0.2}, {0.8}});
  const Workspace workspace = search.scratch.workspace();
  EXPECT_EQ(search.plan.max_concurrent(), 2);
  const auto decisions = search_decisions(workspace, search.plan);
  ASSERT_EQ(decisions.size(), 2u);
  EXPECT_EQ(decisions[0].stage, search.plan.trials[1].train);
  EXPECT_EQ(decisions[0].reason, "loss 0.9 after 1 epoch is 2nd of 2");
  EXPECT_EQ(decisions[1].stage, search.plan.trials[3].train);
  EXPECT_EQ(decisions[1].reason, "loss 0.8 after 1 epoch is 3rd of 4");
  for (const auto& decision : decisions) workspace.write_request(decision.stage, {"stop", decision.reason, 0});
  EXPECT_TRUE(search_decisions(workspace, search.plan).empty());
  const auto loaded = load_plan(workspace, "test");
  EXPECT_EQ(loaded.max_concurrent(), 2);
  workspace.remove_request(decisions[0].stage);
  EXPECT_EQ(search_decisions(workspace, loaded).size(), 1u) << "the loaded plan knows its search";
}

// Guards the rule for what is told twice (workspace/events.hpp): a training that is resumed, and does an epoch again
// with another number, is not judged anew, and does not change how others were; it is shown with the new number.
TEST(Search, DecisionsStandWhenATrainingIsResumed) {
  const SearchScratch search({{0.5, 0.4}, {0.9}, {0.3, 0.2}, {0.8}});
  const Workspace workspace = search.scratch.workspace();
  const auto before = search_decisions(workspace, search.plan);
  ASSERT_EQ(before.size(), 2u);
  const std::string resumed = search.plan.trials[0].train;
  const int attempt = workspace.make_attempt(resumed);
  write_file_atomically(workspace.events_file(resumed, attempt),
                        R"({"event": "epoch", "phase": "main", "epoch": 2, "loss": 0.7, "time": 100})"
                        "\n");
  const auto after = search_decisions(workspace, search.plan);
  ASSERT_EQ(after.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(after[i].stage, before[i].stage);
    EXPECT_EQ(after[i].reason, before[i].reason);
  }
  for (const auto& outcome : search_outcomes(workspace, search.plan, "test"))
    if (outcome.trial->train == resumed) {
      EXPECT_EQ(outcome.last, 0.7);
    }
}

// Guards: a training that is done is not asked to stop.
TEST(Search, LeavesAloneWhatIsDone) {
  const SearchScratch search(std::vector<std::vector<double>>{{0.5}, {0.9}});
  const Workspace workspace = search.scratch.workspace();
  ASSERT_EQ(search_decisions(workspace, search.plan).size(), 1u);
  write_result(workspace, search.plan.trials[1].train, StageKind::train, 1);
  EXPECT_TRUE(search_decisions(workspace, search.plan).empty());
}

// Guards: the report names each draw with its last metric, the stopped ones as such, the best first.
TEST(Search, ReportShowsStoppedDraws) {
  const SearchScratch search({{0.5, 0.4}, {0.9}, {0.3, 0.2}, {}});
  const Workspace workspace = search.scratch.workspace();
  workspace.write_request(search.plan.trials[1].train, {"stop", "loss 0.9 after 1 epoch is 2nd of 2", 0});
  const auto outcomes = search_outcomes(workspace, search.plan, "test");
  ASSERT_EQ(outcomes.size(), 4u);
  EXPECT_EQ(outcomes[0].trial, &search.plan.trials[2]);
  EXPECT_EQ(outcomes[0].last, 0.2);
  EXPECT_EQ(outcomes[2].state, "stopped");
  EXPECT_EQ(outcomes[2].resource, 1);
  EXPECT_EQ(outcomes[3].state, "waiting");
  const std::string text = report_text(workspace, search.plan, ReportFormat::markdown);
  EXPECT_THAT(text, HasSubstr("### test: search by loss"));
  EXPECT_THAT(report_text(workspace, search.plan, ReportFormat::terminal), HasSubstr("\ntest: search by loss\nplace"));
  EXPECT_THAT(text, HasSubstr("| stopped | 1 epoch | 0.9 | - | - | loss 0.9 after 1 epoch is 2nd of 2 |"));
}

// Guards: folds do not compete with each other.
TEST(Search, EachFoldIsACompetitionOfItsOwn) {
  const Scratch scratch;
  scratch.add_all();
  const Plan plan = make_plan(
      scratch.experiment(
          "search: {max_trials: 3, space: {train.main.learning_rate.mdci: {uniform: [0.1, 1]}}}\nseeds: [1, 2]\n"),
      scratch.workspace());
  std::map<std::int64_t, std::set<std::string>> folds;
  std::map<std::int64_t, int> sizes;
  for (const auto& trial : plan.trials) {
    folds[trial.search_group].insert(trial.fold + trial.axis_values.at("train.seed").dump());
    ++sizes[trial.search_group];
  }
  ASSERT_EQ(folds.size(), 4u);
  for (const auto& [group, members] : folds) EXPECT_EQ(members.size(), 1u);
  for (const auto& [group, size] : sizes) EXPECT_EQ(size, 3);
}

}  // namespace
}  // namespace filo
