// An experiment's tables: what the trials' results come to, in the forms people read.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "scheduler/plan.hpp"
#include "scheduler/workspace.hpp"

namespace filo {

struct TrialResult {
  const PlannedTrial* trial = nullptr;
  std::optional<StageResult> evaluate;  // unset: not there yet
};

// One per trial, in the plan's order. The plan must outlive it.
std::vector<TrialResult> trial_results(const Workspace& workspace, const Plan& plan);

// Percent: the mean over the trials of a cell (seeds, other axes); `spread` is the standard deviation, with two or more
// of them.
struct Cell {
  std::optional<double> mean;
  std::optional<double> spread;
};

struct TableRow {
  std::string label;
  std::vector<Cell> cells;
};

struct ResultTable {
  std::string title;
  std::string row_heading;
  std::vector<std::string> columns;  // "mvtec->visa image AUROC"
  std::vector<TableRow> rows;        // "untrained" ones last, where evaluate.compare_untrained was on
};

// The experiment's `tables`; when it has none, one with a row per combination of axis values and the folds as columns.
std::vector<ResultTable> result_tables(const Plan& plan, const std::vector<TrialResult>& results);

std::string metric_title(const std::string& metric);  // "image_auroc" -> "image AUROC"
std::string to_text(const Cell& cell);                // "84.3", "84.3 ± 0.4", "-"

std::string to_terminal(const ResultTable& table);  // aligned columns
std::string to_markdown(const ResultTable& table);
std::string to_csv(const ResultTable& table);  // RFC 4180
std::string to_html(const ResultTable& table);
Json to_json(const ResultTable& table);

std::string html_escaped(const std::string& text);
std::string describe_axis_values(
    const std::map<std::string, Json>& axis_values);  // "filter=true, seed=1"; "" without axes

}  // namespace filo
