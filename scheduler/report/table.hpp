// An experiment's tables: what the trials' results come to, in the forms people read.
#pragma once

#include <optional>
#include <string>
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

// Percent: the mean over the trials of a cell (seeds, other axes); `spread` is their standard deviation (n - 1), with
// two or more of them.
struct Cell {
  std::optional<double> mean{};
  std::optional<double> spread{};
  std::optional<double> paper{};  // the paper's value
  bool best = false;              // of its column; always false where there is nothing to compare with
  std::size_t there = 0;          // trials with a result
  std::size_t trials = 0;         // that belong to the cell
};

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
};

// The tables of the experiment and of those that it includes; an experiment without any gets one with a row per
// combination of what varies and the folds as columns.
std::vector<ResultTable> result_tables(const Plan& plan, const std::vector<TrialResult>& results);

// "84.3", "84.3 ± 0.4", "84.3 [1 of 3]" while trials are missing, "-", with the paper's value "84.3 (85.0)".
std::string to_text(const Cell& cell);

std::string to_terminal(const ResultTable& table);  // aligned columns
std::string to_markdown(const ResultTable& table);
std::string to_csv(const ResultTable& table);    // RFC 4180
std::string to_latex(const ResultTable& table);  // a table environment; needs the package booktabs
std::string to_html(const ResultTable& table);
Json to_json(const ResultTable& table);

// A table of text, for what is not per cent.
struct TextTable {
  std::string title;
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;  // the first cell is the row's name
};
std::string to_terminal(const TextTable& table);
std::string to_markdown(const TextTable& table);
std::string to_csv(const TextTable& table);
std::string to_latex(const TextTable& table);
std::string to_html(const TextTable& table);

std::string html_escaped(const std::string& text);
std::string latex_escaped(const std::string& text);
std::string csv_field(const std::string& text);       // quoted where it must be
std::string markdown_field(const std::string& text);  // for a cell of a table

}  // namespace filo
