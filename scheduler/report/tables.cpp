#include "scheduler/report/tables.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "scheduler/plan/axis_values.hpp"
#include "scheduler/plan/clip_activation.hpp"
#include "settings/metrics.hpp"

namespace filo {
namespace {

constexpr std::size_t most_places_told = 6;  // of one reason

Cell metric_of(const TrialResult& result, const std::string& metric, bool untrained) {
  if (!result.evaluate) return {};
  const Json& metrics = result.evaluate->metrics;
  return cell_of(untrained ? metrics.value("untrained", Json()) : metrics, metric);
}

// One cell of several trials' cells.
Cell over_trials(const std::vector<Cell>& trials) {
  std::vector<Cell> there;
  std::copy_if(trials.begin(), trials.end(), std::back_inserter(there),
               [](const Cell& one) { return one.mean.has_value(); });
  Cell cell = there.empty() ? Cell{} : there.front();
  cell.there = there.size();
  cell.trials = trials.size();
  if (there.empty())
    for (const Cell& one : trials)
      if (cell.reason.empty()) cell.reason = one.reason;
  if (there.size() < 2) return cell;
  const auto count = static_cast<double>(there.size());
  double sum = 0, squares = 0;
  for (const Cell& one : there) sum += *one.mean;
  for (const Cell& one : there) squares += (*one.mean - sum / count) * (*one.mean - sum / count);
  cell.mean = sum / count;
  cell.spread = std::sqrt(squares / (count - 1));
  cell.interval.reset();
  return cell;
}

bool has_any(const ResultTable& table, bool (*holds)(const Cell&)) {
  return std::any_of(table.rows.begin(), table.rows.end(),
                     [holds](const TableRow& row) { return std::any_of(row.cells.begin(), row.cells.end(), holds); });
}

// Where a trial stands on "fold", on an axis, or ("") on all axes but the seeds together.
std::string position(const PlannedTrial& trial, const std::string& dimension, const std::string& other) {
  if (dimension == "fold") return trial.fold;
  if (!dimension.empty()) {
    const auto found = trial.axis_values.find(dimension);
    return found == trial.axis_values.end() ? "" : plain_text(found->second);
  }
  std::map<std::string, Json> values = trial.axis_values;
  std::erase_if(values, [](const auto& value) { return is_seed(value.first); });
  values.erase(other);
  return describe_axis_values(values);
}

void add_once(std::vector<std::string>& list, const std::string& text) {
  if (std::find(list.begin(), list.end(), text) == list.end()) list.push_back(text);
}

using Trials = std::vector<const TrialResult*>;

// One table of a plan, row by row.
class TableMaker {
 public:
  TableMaker(const Table& table, const std::string& fallback_title, const std::vector<TrialResult>& results)
      : table_(table) {
    for (const auto& result : results)
      if (result.trial->experiment == table.experiment) results_.push_back(&result);
    made_.title = table.title.empty() ? fallback_title : table.title;
    if (table.named_rows.empty() && !table.rows.empty())
      made_.row_heading = table.rows == "fold" || table.rows == "name" ? table.rows : short_key(table.rows);
  }

  ResultTable make() {
    collect_columns();
    for (const auto& note : {table_.experiment_note, table_.note})
      if (!note.empty()) made_.notes.push_back(note);
    const std::size_t first_untrained = table_.named_rows.empty() ? add_rows_by_value() : add_named_rows();
    mark_best(first_untrained);
    made_.add_reasons();
    return std::move(made_);
  }

 private:
  bool by_name_alone() const { return !table_.named_rows.empty() && table_.columns.empty(); }

  // Folds do not compete, and each has its own untrained model to be compared with.
  bool folds_are_rows() const {
    if (table_.named_rows.empty()) return table_.rows == "fold";
    return std::any_of(table_.named_rows.begin(), table_.named_rows.end(),
                       [](const auto& row) { return row.where && row.where->values.contains("fold"); });
  }

  std::string column_of(const TrialResult& result) const {
    return by_name_alone() ? "" : position(*result.trial, table_.columns, table_.rows);
  }

  void collect_columns() {
    for (const TrialResult* result : results_) add_once(columns_, column_of(*result));
    for (const auto& [row, columns] : table_.paper)  // also where no trial of ours is
      for (const auto& [column, values] : columns) add_once(columns_, column);
    for (const auto& column : columns_)
      for (const auto& metric : table_.metrics) made_.columns.push_back({column, metric_title(metric)});
  }

  std::size_t add_rows_by_value() {
    std::vector<std::string> labels;
    std::map<std::string, Trials> rows;
    for (const TrialResult* result : results_) {
      const std::string label = position(*result->trial, table_.rows, table_.columns);
      add_once(labels, label);
      rows[label].push_back(result);
    }
    for (const auto& label : labels) {
      add_row(label.empty() ? "trained" : label, rows[label], false);
      add_paper(label);
    }
    const std::size_t trained = made_.rows.size();
    if (folds_are_rows())
      for (const auto& label : labels) add_untrained(label + ", untrained", rows[label]);
    else
      add_untrained("untrained", results_);
    return trained;
  }

  std::size_t add_named_rows() {
    Trials shown;
    std::vector<std::pair<std::string, Trials>> rows;
    for (const auto& row : table_.named_rows) {
      Trials trials;
      if (row.where)
        for (const TrialResult* result : results_)
          if (row.where->matches(result->trial->fold, result->trial->axis_values)) trials.push_back(result);
      shown.insert(shown.end(), trials.begin(), trials.end());
      add_row(row.name, trials, false);
      add_paper(row.name);
      rows.emplace_back(row.name, std::move(trials));
      if (row.note.empty()) continue;
      made_.rows.back().mark = std::string(1, static_cast<char>('a' + notes_++ % 26));
      made_.notes.push_back(made_.rows.back().mark + ": " + row.note);
    }
    const std::size_t trained = made_.rows.size();
    if (folds_are_rows())
      for (const auto& [name, trials] : rows) add_untrained(name + ", untrained", trials);
    else
      add_untrained("untrained", shown);
    return trained;
  }

  void add_row(const std::string& label, const Trials& trials, bool untrained) {
    TableRow row{.label = label, .cells = {}};
    for (const auto& column : columns_)
      for (const auto& metric : table_.metrics) {
        std::vector<Cell> cells;
        for (const TrialResult* result : trials)
          if (column_of(*result) == column) cells.push_back(metric_of(*result, metric, untrained));
        row.cells.push_back(over_trials(cells));
      }
    made_.rows.push_back(std::move(row));
  }

  void add_untrained(const std::string& label, const Trials& trials) {
    add_row(label, trials, true);
    const auto& cells = made_.rows.back().cells;
    if (std::none_of(cells.begin(), cells.end(), [](const Cell& cell) { return cell.mean.has_value(); }))
      made_.rows.pop_back();
  }

  // The paper's values beside those of the last row.
  void add_paper(const std::string& label) {
    const auto row = table_.paper.find(label);
    if (row == table_.paper.end()) return;
    std::size_t cell = 0;
    for (const auto& column : columns_) {
      const auto found = row->second.find(column);
      for (std::size_t i = 0; i < table_.metrics.size(); ++i, ++cell)
        if (found != row->second.end() && found->second.at(i).is_number())
          made_.rows.back().cells[cell].paper = found->second[i].get<double>();
    }
  }

  void mark_best(std::size_t rows) {
    if (folds_are_rows()) return;
    for (std::size_t column = 0; column < made_.columns.size(); ++column) {
      std::optional<double> best;
      int compared = 0;
      for (std::size_t row = 0; row < rows; ++row)
        if (const auto& mean = made_.rows[row].cells[column].mean) {
          ++compared;
          best = std::max(best.value_or(*mean), *mean);
        }
      for (std::size_t row = 0; compared > 1 && row < rows; ++row) {
        Cell& cell = made_.rows[row].cells[column];
        cell.best = cell.mean && std::abs(*cell.mean - *best) < 0.05;  // what is printed alike is equally good
      }
    }
  }

  const Table& table_;
  Trials results_;
  std::vector<std::string> columns_;
  int notes_ = 0;
  ResultTable made_;
};

}  // namespace

std::optional<double> percent_of(const Json& metrics, const std::string& name) {
  if (!metrics.is_object() || !metrics.contains(name) || !metrics[name].is_number()) return std::nullopt;
  return 100 * metrics[name].get<double>();
}

Cell cell_of(const Json& metrics, const std::string& name) {
  Cell cell{.mean = percent_of(metrics, name)};
  const auto about = [&](const char* part) {  // the metric's entry in `intervals` or `reasons`
    const Json all = metrics.is_object() ? metrics.value(part, Json()) : Json();
    return all.is_object() ? all.value(name, Json()) : Json();
  };
  if (!cell.mean) {
    if (const Json reason = about("reasons"); reason.is_string()) cell.reason = reason;
    return cell;
  }
  const Json interval = about("intervals");
  if (interval.is_array() && interval.size() == 2 && interval[0].is_number() && interval[1].is_number())
    cell.interval = {100 * interval[0].get<double>(), 100 * interval[1].get<double>()};
  return cell;
}

std::vector<TrialResult> trial_results(const Workspace& workspace, const Plan& plan) {
  std::vector<TrialResult> results;
  for (const auto& trial : plan.trials)
    results.push_back({&trial, workspace.result(trial.evaluate, StageKind::evaluate)});
  return results;
}

// Pixel metrics that were made of fewer images than the image metrics beside them.
std::vector<std::string> notes_of_missing_masks(const std::vector<TrialResult>& results) {
  std::vector<std::string> notes;
  for (const auto& [trial, result] : results) {
    if (!result) continue;
    const Json images = result->metrics.value("without_mask", Json());
    if (!images.is_number_unsigned() || !percent_of(result->metrics, "pixel_auroc")) continue;
    const std::string note =
        "fold " + trial->fold + ": pixel metrics leave out " + images.dump() + " anomalous images that have no mask";
    if (std::ranges::find(notes, note) == notes.end()) notes.push_back(note);
  }
  return notes;
}

std::vector<ResultTable> result_tables(const Plan& plan, const std::vector<TrialResult>& results) {
  std::vector<ResultTable> tables;
  std::vector<std::string> experiments;
  for (const auto& trial : plan.trials) add_once(experiments, trial.experiment);
  for (const auto& table : plan.tables) tables.push_back(TableMaker(table, table.experiment, results).make());
  for (const auto& experiment : experiments) {
    const bool has_table = std::any_of(plan.tables.begin(), plan.tables.end(),
                                       [&](const Table& table) { return table.experiment == experiment; });
    if (has_table) continue;
    const Table table{.experiment = experiment,
                      .title = "",
                      .rows = "",
                      .named_rows = {},
                      .columns = "fold",
                      .metrics = main_metrics(),
                      .paper = {},
                      .note = "",
                      .experiment_note = ""};
    tables.push_back(TableMaker(table, experiment, results).make());
  }
  if (const std::string notice = results_of_other_activation(plan); !notice.empty())
    for (ResultTable& table : tables) table.notes.push_back(notice);
  for (const SharedImages& shared : plan.shared_images)
    for (ResultTable& table : tables)
      table.notes.push_back("fold " + shared.fold + ": not all that is tested was unseen: " + shared.test + " has " +
                            std::to_string(shared.images) + " of the images of " + shared.train + " (--allow-shared)");
  for (const std::string& note : notes_of_missing_masks(results))
    for (ResultTable& table : tables) table.notes.push_back(note);
  return tables;
}

bool ResultTable::has_paper() const {
  return has_any(*this, [](const Cell& cell) { return cell.paper.has_value(); });
}

bool ResultTable::has_intervals() const {
  return has_any(*this, [](const Cell& cell) { return cell.interval.has_value(); });
}

bool ResultTable::has_reasons() const {
  return has_any(*this, [](const Cell& cell) { return !cell.reason.empty(); });
}

void ResultTable::add_reasons() {
  std::vector<std::pair<std::string, std::vector<std::string>>> reasons;  // and where
  for (const TableRow& row : rows)
    for (std::size_t i = 0; i < row.cells.size(); ++i) {
      const std::string& reason = row.cells[i].reason;
      if (reason.empty()) continue;
      auto known = std::find_if(reasons.begin(), reasons.end(), [&](const auto& one) { return one.first == reason; });
      if (known == reasons.end()) known = reasons.insert(reasons.end(), {reason, {}});
      known->second.push_back(row.label + " " + columns[i].title());
    }
  for (const auto& [reason, places] : reasons) {
    std::string text = "-: " + reason + " (";
    for (std::size_t i = 0; i < std::min(places.size(), most_places_told); ++i)
      text += (i == 0 ? "" : ", ") + places[i];
    if (places.size() > most_places_told) text += " and " + std::to_string(places.size() - most_places_told) + " more";
    notes.push_back(text + ")");
  }
}

}  // namespace filo
