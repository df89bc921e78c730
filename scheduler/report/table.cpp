#include "scheduler/report/table.hpp"
#include "scheduler/plan/axis_values.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "settings/metrics.hpp"

namespace filo {
namespace {

using Values = std::vector<double>;

std::optional<double> metric_of(const TrialResult& result, const std::string& metric, bool untrained) {
  if (!result.evaluate) return std::nullopt;
  const Json* metrics = &result.evaluate->metrics;
  if (untrained) {
    if (!metrics->contains("untrained")) return std::nullopt;
    metrics = &(*metrics)["untrained"];
  }
  if (!metrics->is_object() || !metrics->contains(metric) || !(*metrics)[metric].is_number()) return std::nullopt;
  return 100 * (*metrics)[metric].get<double>();
}

Cell cell_of(const Values& values) {
  Cell cell{.there = values.size()};
  if (values.empty()) return cell;
  double sum = 0;
  for (const double value : values) sum += value;
  const double mean = sum / static_cast<double>(values.size());
  cell.mean = mean;
  if (values.size() == 1) return cell;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  cell.spread = std::sqrt(squares / static_cast<double>(values.size() - 1));
  return cell;
}

// Where a trial stands on "fold", on an axis, or ("") on all axes but the seed together.
std::string position(const PlannedTrial& trial, const std::string& dimension, const std::string& other) {
  if (dimension == "fold") return trial.fold;
  if (!dimension.empty()) {
    const auto found = trial.axis_values.find(dimension);
    return found == trial.axis_values.end() ? "" : plain_text(found->second);
  }
  std::map<std::string, Json> values = trial.axis_values;
  values.erase("train.seed");
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
    return std::move(made_);
  }

 private:
  bool by_name_alone() const { return !table_.named_rows.empty() && table_.columns.empty(); }

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
    // With the folds as rows, each has its own untrained model to be compared with.
    if (table_.rows == "fold")
      for (const auto& label : labels) add_untrained(label + ", untrained", rows[label]);
    else
      add_untrained("untrained", results_);
    return trained;
  }

  std::size_t add_named_rows() {
    Trials shown;
    for (const auto& row : table_.named_rows) {
      Trials trials;
      if (row.where)
        for (const TrialResult* result : results_)
          if (row.where->matches(result->trial->fold, result->trial->axis_values)) trials.push_back(result);
      shown.insert(shown.end(), trials.begin(), trials.end());
      add_row(row.name, trials, false);
      add_paper(row.name);
      if (row.note.empty()) continue;
      made_.rows.back().mark = std::string(1, static_cast<char>('a' + notes_++ % 26));
      made_.notes.push_back(made_.rows.back().mark + ": " + row.note);
    }
    const std::size_t trained = made_.rows.size();
    add_untrained("untrained", shown);
    return trained;
  }

  void add_row(const std::string& label, const Trials& trials, bool untrained) {
    TableRow row{.label = label, .cells = {}};
    for (const auto& column : columns_)
      for (const auto& metric : table_.metrics) {
        Values values;
        std::size_t count = 0;
        for (const TrialResult* result : trials) {
          if (column_of(*result) != column) continue;
          ++count;
          if (const auto value = metric_of(*result, metric, untrained)) values.push_back(*value);
        }
        Cell cell = cell_of(values);
        cell.trials = count;
        row.cells.push_back(cell);
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
    if (table_.rows == "fold" && table_.named_rows.empty()) return;  // folds do not compete
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

// Width on a terminal: bytes that are not UTF-8 continuations.
std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](unsigned char c) { return (c & 0xC0) != 0x80; }));
}

std::string padded(const std::string& text, std::size_t to, bool right) {
  const std::string blanks(to > width(text) ? to - width(text) : 0, ' ');
  return right ? blanks + text : text + blanks;
}

std::string number(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.1f", value);
  return text;
}

// Ours alone, without the paper's.
std::string own_text(const Cell& cell, const char* plus_minus = " ± ") {
  if (!cell.mean) return "-";
  std::string text = number(*cell.mean);
  if (cell.spread) text += plus_minus + number(*cell.spread);
  if (cell.there < cell.trials) text += " [" + std::to_string(cell.there) + " of " + std::to_string(cell.trials) + "]";
  return text;
}

std::string paper_text(const Cell& cell) { return cell.paper ? " (" + number(*cell.paper) + ")" : ""; }

std::string unit_text(const ResultTable& table) { return table.has_paper() ? " (%; the paper's in brackets)" : " (%)"; }

// Runs of equal groups: (group, columns).
std::vector<std::pair<std::string, std::size_t>> column_groups(const ResultTable& table) {
  std::vector<std::pair<std::string, std::size_t>> groups;
  for (const auto& column : table.columns) {
    if (groups.empty() || groups.back().first != column.group) groups.emplace_back(column.group, 0);
    ++groups.back().second;
  }
  return groups;
}

}  // namespace

std::vector<TrialResult> trial_results(const Workspace& workspace, const Plan& plan) {
  std::vector<TrialResult> results;
  for (const auto& trial : plan.trials)
    results.push_back({&trial, workspace.result(trial.evaluate, StageKind::evaluate)});
  return results;
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
  return tables;
}

bool ResultTable::has_paper() const {
  return std::any_of(rows.begin(), rows.end(), [](const TableRow& row) {
    return std::any_of(row.cells.begin(), row.cells.end(), [](const Cell& cell) { return cell.paper.has_value(); });
  });
}

std::string to_text(const Cell& cell) { return own_text(cell) + paper_text(cell); }

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::string markdown_field(const std::string& text) {
  std::string escaped;
  for (const char c : text) escaped += c == '|' ? "\\|" : c == '\n' ? " " : std::string(1, c);
  return escaped;
}

std::string to_terminal(const ResultTable& table) {
  const auto label = [](const TableRow& row) { return row.label + (row.mark.empty() ? "" : " [" + row.mark + "]"); };
  std::size_t label_width = width(table.row_heading);
  for (const auto& row : table.rows) label_width = std::max(label_width, width(label(row)));
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    widths.push_back(width(table.columns[i].title()));
    for (const auto& row : table.rows) widths[i] = std::max(widths[i], width(to_text(row.cells[i])));
  }
  std::string text = table.title + unit_text(table) + "\n" + padded(table.row_heading, label_width, false);
  for (std::size_t i = 0; i < widths.size(); ++i) text += "  " + padded(table.columns[i].title(), widths[i], true);
  text += "\n";
  for (const auto& row : table.rows) {
    text += padded(label(row), label_width, false);
    for (std::size_t i = 0; i < widths.size(); ++i) text += "  " + padded(to_text(row.cells[i]), widths[i], true);
    text += "\n";
  }
  for (const auto& note : table.notes) text += note + "\n";
  return text;
}

std::string to_markdown(const ResultTable& table) {
  std::string text = "### " + table.title + unit_text(table) + "\n\n| " + markdown_field(table.row_heading) + " |";
  std::string line = "|---|";
  for (const auto& column : table.columns) {
    text += " " + markdown_field(column.title()) + " |";
    line += "---:|";
  }
  text += "\n" + line + "\n";
  for (const auto& row : table.rows) {
    text += "| " + markdown_field(row.label) + (row.mark.empty() ? "" : " <sup>" + row.mark + "</sup>") + " |";
    for (const auto& cell : row.cells)
      text += " " + (cell.best ? "**" + own_text(cell) + "**" : own_text(cell)) + paper_text(cell) + " |";
    text += "\n";
  }
  for (const auto& note : table.notes) text += "\n" + note + "\n";
  return text;
}

std::string to_csv(const ResultTable& table) {
  const bool paper = table.has_paper();
  std::string text = csv_field(table.row_heading.empty() ? "row" : table.row_heading);
  for (const auto& column : table.columns) {
    text += "," + csv_field(column.title()) + "," + csv_field(column.title() + " standard deviation");
    if (paper) text += "," + csv_field(column.title() + " paper");
  }
  text += "\r\n";
  const auto value = [](const std::optional<double>& number) { return "," + (number ? Json(*number).dump() : ""); };
  for (const auto& row : table.rows) {
    text += csv_field(row.label);
    for (const auto& cell : row.cells) text += value(cell.mean) + value(cell.spread) + (paper ? value(cell.paper) : "");
    text += "\r\n";
  }
  return text;
}

std::string to_latex(const ResultTable& table) {
  std::string text = "\\begin{table}\n\\centering\n\\caption{" + latex_escaped(table.title + unit_text(table)) +
                     "}\n\\begin{tabular}{l" + std::string(table.columns.size(), 'r') + "}\n\\toprule\n";
  const auto groups = column_groups(table);
  if (groups.size() > 1 || (!groups.empty() && !groups[0].first.empty())) {
    std::string rules;
    std::size_t first = 2;
    for (const auto& [group, columns] : groups) {
      text += " & \\multicolumn{" + std::to_string(columns) + "}{c}{" + latex_escaped(group) + "}";
      rules += "\\cmidrule(lr){" + std::to_string(first) + "-" + std::to_string(first + columns - 1) + "}";
      first += columns;
    }
    text += " \\\\\n" + rules + "\n";
  }
  text += latex_escaped(table.row_heading);
  for (const auto& column : table.columns) text += " & " + latex_escaped(column.metric);
  text += " \\\\\n\\midrule\n";
  for (const auto& row : table.rows) {
    text += latex_escaped(row.label) + (row.mark.empty() ? "" : "\\textsuperscript{" + row.mark + "}");
    for (const auto& cell : row.cells) {
      const std::string own = cell.mean ? own_text(cell, " $\\pm$ ") : "--";
      text += " & " + (cell.best ? "\\textbf{" + own + "}" : own) + paper_text(cell);
    }
    text += " \\\\\n";
  }
  text += "\\bottomrule\n\\end{tabular}\n";
  for (const auto& note : table.notes) text += "\n\\footnotesize " + latex_escaped(note) + "\n";
  return text + "\\end{table}\n";
}

std::string to_html(const ResultTable& table) {
  std::string text = "<table><caption>" + html_escaped(table.title + unit_text(table)) + "</caption>\n<thead>";
  const auto groups = column_groups(table);
  const bool paper = table.has_paper();
  const bool grouped = groups.size() > 1 || (!groups.empty() && !groups[0].first.empty());
  if (grouped) {
    text += "<tr><td></td>";
    for (const auto& [group, columns] : groups)
      text += "<th class=\"group\" scope=\"colgroup\" colspan=\"" + std::to_string(columns) + "\">" +
              html_escaped(group) + "</th>";
    text += "</tr>\n";
  }
  text += "<tr><th scope=\"col\">" + html_escaped(table.row_heading) + "</th>";
  for (const auto& column : table.columns) text += "<th scope=\"col\">" + html_escaped(column.metric) + "</th>";
  text += "</tr></thead>\n<tbody>";
  for (const auto& row : table.rows) {
    text += "<tr><th scope=\"row\">" + html_escaped(row.label) +
            (row.mark.empty() ? "" : "<sup>" + row.mark + "</sup>") + "</th>";
    for (const auto& cell : row.cells) {
      text += "<td>" + (cell.best ? "<b>" + own_text(cell) + "</b>" : own_text(cell));
      if (paper) text += " <span class=\"paper\">" + (cell.paper ? paper_text(cell).substr(1) : "") + "</span>";
      text += "</td>";
    }
    text += "</tr>\n";
  }
  text += "</tbody></table>\n";
  for (const auto& note : table.notes) text += "<p class=\"note\">" + html_escaped(note) + "</p>\n";
  return text;
}

Json to_json(const ResultTable& table) {
  const auto value = [](const std::optional<double>& number) { return number ? Json(*number) : Json(); };
  Json json = {{"title", table.title},     {"unit", "percent"},     {"row_heading", table.row_heading},
               {"columns", Json::array()}, {"rows", Json::array()}, {"notes", table.notes}};
  for (const auto& column : table.columns) json["columns"].push_back(column.title());
  for (const auto& row : table.rows) {
    Json cells = Json::array();
    for (const auto& cell : row.cells)
      cells.push_back({{"mean", value(cell.mean)},
                       {"standard_deviation", value(cell.spread)},
                       {"paper", value(cell.paper)},
                       {"best", cell.best},
                       {"trials_done", cell.there},
                       {"trials", cell.trials}});
    json["rows"].push_back({{"label", row.label}, {"note", row.mark}, {"cells", cells}});
  }
  return json;
}

std::string to_terminal(const TextTable& table) {
  std::vector<std::size_t> widths;
  for (const auto& column : table.columns) widths.push_back(width(column));
  for (const auto& row : table.rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  std::string text = table.title + "\n";
  const auto add = [&](const std::vector<std::string>& cells) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) line += (i == 0 ? "" : "  ") + padded(cells[i], widths[i], false);
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  };
  add(table.columns);
  for (const auto& row : table.rows) add(row);
  return text;
}

std::string to_markdown(const TextTable& table) {
  std::string text = "### " + table.title + "\n\n|", line = "|";
  for (const auto& column : table.columns) {
    text += " " + markdown_field(column) + " |";
    line += "---|";
  }
  text += "\n" + line + "\n";
  for (const auto& row : table.rows) {
    text += "|";
    for (const auto& cell : row) text += " " + markdown_field(cell) + " |";
    text += "\n";
  }
  return text;
}

std::string to_csv(const TextTable& table) {
  std::string text;
  const auto add = [&](const std::vector<std::string>& cells) {
    for (std::size_t i = 0; i < cells.size(); ++i) text += (i == 0 ? "" : ",") + csv_field(cells[i]);
    text += "\r\n";
  };
  add(table.columns);
  for (const auto& row : table.rows) add(row);
  return text;
}

std::string to_latex(const TextTable& table) {
  std::string text = "\\begin{table}\n\\centering\n\\caption{" + latex_escaped(table.title) + "}\n\\begin{tabular}{" +
                     std::string(table.columns.size(), 'l') + "}\n\\toprule\n";
  const auto add = [&](const std::vector<std::string>& cells) {
    for (std::size_t i = 0; i < cells.size(); ++i) text += (i == 0 ? "" : " & ") + latex_escaped(cells[i]);
    text += " \\\\\n";
  };
  add(table.columns);
  text += "\\midrule\n";
  for (const auto& row : table.rows) add(row);
  return text + "\\bottomrule\n\\end{tabular}\n\\end{table}\n";
}

std::string to_html(const TextTable& table) {
  std::string text = "<table class=\"text\"><caption>" + html_escaped(table.title) + "</caption>\n<thead><tr>";
  for (const auto& column : table.columns) text += "<th scope=\"col\">" + html_escaped(column) + "</th>";
  text += "</tr></thead>\n<tbody>";
  for (const auto& row : table.rows) {
    text += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i)
      text += (i == 0 ? "<th scope=\"row\">" : "<td>") + html_escaped(row[i]) + (i == 0 ? "</th>" : "</td>");
    text += "</tr>\n";
  }
  return text + "</tbody></table>\n";
}

std::string latex_escaped(const std::string& text) {
  static const std::vector<std::pair<std::string, std::string>> replacements = {{"\\", "\\textbackslash{}"},
                                                                                {"{", "\\{"},
                                                                                {"}", "\\}"},
                                                                                {"&", "\\&"},
                                                                                {"%", "\\%"},
                                                                                {"$", "\\$"},
                                                                                {"#", "\\#"},
                                                                                {"_", "\\_"},
                                                                                {"~", "\\textasciitilde{}"},
                                                                                {"^", "\\textasciicircum{}"},
                                                                                {"<", "\\textless{}"},
                                                                                {">", "\\textgreater{}"},
                                                                                {"|", "\\textbar{}"},
                                                                                {"\"", "''"},
                                                                                {"--", "-{}-"},
                                                                                {"±", "$\\pm$"},
                                                                                {"→", "$\\rightarrow$"},
                                                                                {"×", "$\\times$"},
                                                                                {"λ", "$\\lambda$"},
                                                                                {"\n", " "}};
  std::string escaped;
  for (std::size_t at = 0; at < text.size();) {
    const auto found = std::find_if(replacements.begin(), replacements.end(), [&](const auto& replacement) {
      return text.compare(at, replacement.first.size(), replacement.first) == 0;
    });
    escaped += found == replacements.end() ? text.substr(at, 1) : found->second;
    at += found == replacements.end() ? 1 : found->first.size();
  }
  return escaped;
}

std::string html_escaped(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

}  // namespace filo
