// An experiment's tables: which trial's result stands in which cell. scheduler/report/formats.hpp writes them.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/plan/plan.hpp"
#include "workspace/workspace.hpp"

namespace filo {

struct TrialResult {
  const PlannedTrial* trial = nullptr;
  std::optional<StageResult> evaluate;  // unset: not there yet
};

// One per trial, in the plan's order. The plan must outlive it.
std::vector<TrialResult> trial_results(const Workspace& workspace, const Plan& plan);

// A metric of a result (settings/metrics.hpp) in per cent; unset when it is not there.
std::optional<double> percent_of(const Json& metrics, const std::string& name);

// Percent: the mean over the trials of a cell (seeds, other axes); `spread` is their standard deviation (n - 1), with
// two or more of them.
struct Cell {
  std::optional<double> mean{};
  std::optional<double> spread{};
  std::optional<std::pair<double, double>> interval{};  // 95 %, of one trial's value; unset where its result has none
  std::string reason{};           // why a result has no value; "" where it has one or does not say
  std::optional<double> paper{};  // the paper's value
  bool best = false;              // of its column; always false where there is nothing to compare with
  std::size_t there = 0;          // trials with a result
  std::size_t trials = 0;         // that belong to the cell
};

// Of one result's metrics. Null where there is no result.
Cell cell_of(const Json& metrics, const std::string& name);

struct TableRow {
  std::string label;
  std::vector<Cell> cells;
  std::string mark{};  // of the note below the table: "a"
};

struct TableColumn {
  std::string group;   // "mvtec->visa", or "" where the columns are the metrics alone
  std::string metric;  // "image AUROC"
  std::string title() const { return group + (group.empty() || metric.empty() ? "" : " ") + metric; }
};

struct ResultTable {
  std::string title;
  std::string row_heading;
  std::vector<TableColumn> columns;
  std::vector<TableRow> rows;        // "untrained" ones last, where evaluate.compare_untrained was on
  std::vector<std::string> notes{};  // "a: ...", one a line
  bool has_paper() const;            // some cell has the paper's value
  bool has_intervals() const;        // likewise
  bool has_reasons() const;          // some cell says why it has no value
  void add_reasons();                // notes that say why cells have no value, each reason once
};

// The tables of the experiment and of those that it includes; an experiment without any gets one with a row per
// combination of what varies and the folds as columns.
std::vector<ResultTable> result_tables(const Plan& plan, const std::vector<TrialResult>& results);

// A table of text, for what is not per cent.
struct TextTable {
  std::string title;
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;  // the first cell is the row's name
};

}  // namespace filo
