#include "scheduler/table.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

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
  if (values.empty()) return {};
  double sum = 0;
  for (const double value : values) sum += value;
  const double mean = sum / static_cast<double>(values.size());
  if (values.size() == 1) return {mean, std::nullopt};
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, std::sqrt(squares / static_cast<double>(values.size() - 1))};
}

std::string plain_text(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

// "model.prompts.filter" -> "filter"; the full key where that would be ambiguous is not worth the width.
std::string short_key(const std::string& key) { return key.substr(key.rfind('.') + 1); }

// Where a trial stands on "fold", an axis, or ("") on all axes but the seed together.
std::string position(const PlannedTrial& trial, const std::string& dimension, const std::string& other) {
  if (dimension == "fold") return trial.fold;
  if (!dimension.empty()) return plain_text(trial.axis_values.at(dimension));
  std::map<std::string, Json> values = trial.axis_values;
  values.erase("train.seed");
  values.erase(other);
  return describe_axis_values(values);
}

void add_once(std::vector<std::string>& list, const std::string& text) {
  if (std::find(list.begin(), list.end(), text) == list.end()) list.push_back(text);
}

ResultTable make_table(const Table& table, const std::string& name, const std::vector<TrialResult>& results) {
  std::vector<std::string> rows, columns;
  std::map<std::pair<std::string, std::string>, std::vector<const TrialResult*>> cells;
  for (const auto& result : results) {
    const std::string row = position(*result.trial, table.rows, table.columns);
    const std::string column = position(*result.trial, table.columns, table.rows);
    add_once(rows, row);
    add_once(columns, column);
    cells[{row, column}].push_back(&result);
  }
  ResultTable made{.title = table.title.empty() ? name : table.title,
                   .row_heading = table.rows.empty()     ? ""
                                  : table.rows == "fold" ? "fold"
                                                         : short_key(table.rows),
                   .columns = {},
                   .rows = {}};
  for (const auto& column : columns)
    for (const auto& metric : table.metrics)
      made.columns.push_back(column + (column.empty() ? "" : " ") + metric_title(metric));

  const auto row_of = [&](const std::string& label, const std::vector<std::string>& from, bool untrained) {
    TableRow row{.label = label, .cells = {}};
    for (const auto& column : columns)
      for (const auto& metric : table.metrics) {
        Values values;
        for (const auto& source : from)
          if (const auto found = cells.find({source, column}); found != cells.end())
            for (const TrialResult* result : found->second)
              if (const auto value = metric_of(*result, metric, untrained)) values.push_back(*value);
        row.cells.push_back(cell_of(values));
      }
    return row;
  };
  for (const auto& row : rows) made.rows.push_back(row_of(row.empty() ? "trained" : row, {row}, false));
  // With the folds as rows, each has its own untrained model to be compared with.
  std::vector<TableRow> untrained;
  if (table.rows == "fold")
    for (const auto& row : rows) untrained.push_back(row_of(row + ", untrained", {row}, true));
  else
    untrained.push_back(row_of("untrained", rows, true));
  for (auto& row : untrained)
    if (std::any_of(row.cells.begin(), row.cells.end(), [](const Cell& cell) { return cell.mean.has_value(); }))
      made.rows.push_back(std::move(row));
  return made;
}

// Width on a terminal: bytes that are not UTF-8 continuations.
std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](unsigned char c) { return (c & 0xC0) != 0x80; }));
}

std::string padded(const std::string& text, std::size_t to, bool right) {
  const std::string blanks(to > width(text) ? to - width(text) : 0, ' ');
  return right ? blanks + text : text + blanks;
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::string markdown_field(const std::string& text) {
  std::string escaped;
  for (const char c : text) escaped += c == '|' ? "\\|" : std::string(1, c);
  return escaped;
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
  for (const auto& table : plan.tables) tables.push_back(make_table(table, plan.name, results));
  if (tables.empty())
    tables.push_back(make_table({.title = "", .rows = "", .columns = "fold", .metrics = {"image_auroc", "pixel_auroc"}},
                                plan.name, results));
  return tables;
}

std::string metric_title(const std::string& metric) {
  static const std::map<std::string, std::string> titles = {{"image_auroc", "image AUROC"},
                                                            {"image_ap", "image AP"},
                                                            {"image_f1_max", "image F1-max"},
                                                            {"pixel_auroc", "pixel AUROC"},
                                                            {"pixel_ap", "pixel AP"},
                                                            {"pixel_f1_max", "pixel F1-max"},
                                                            {"aupro", "AUPRO"}};
  const auto found = titles.find(metric);
  return found == titles.end() ? metric : found->second;
}

std::string to_text(const Cell& cell) {
  if (!cell.mean) return "-";
  char text[64];
  if (cell.spread)
    std::snprintf(text, sizeof text, "%.1f ± %.1f", *cell.mean, *cell.spread);
  else
    std::snprintf(text, sizeof text, "%.1f", *cell.mean);
  return text;
}

std::string describe_axis_values(const std::map<std::string, Json>& axis_values) {
  std::string text;
  for (const auto& [key, value] : axis_values)
    text += (text.empty() ? "" : ", ") + short_key(key) + "=" + plain_text(value);
  return text;
}

std::string to_terminal(const ResultTable& table) {
  std::size_t label_width = width(table.row_heading);
  for (const auto& row : table.rows) label_width = std::max(label_width, width(row.label));
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    widths.push_back(width(table.columns[i]));
    for (const auto& row : table.rows) widths[i] = std::max(widths[i], width(to_text(row.cells[i])));
  }
  std::string text = table.title + " (%)\n" + padded(table.row_heading, label_width, false);
  for (std::size_t i = 0; i < widths.size(); ++i) text += "  " + padded(table.columns[i], widths[i], true);
  text += "\n";
  for (const auto& row : table.rows) {
    text += padded(row.label, label_width, false);
    for (std::size_t i = 0; i < widths.size(); ++i) text += "  " + padded(to_text(row.cells[i]), widths[i], true);
    text += "\n";
  }
  return text;
}

std::string to_markdown(const ResultTable& table) {
  std::string text = "### " + table.title + " (%)\n\n| " + markdown_field(table.row_heading) + " |";
  std::string line = "|---|";
  for (const auto& column : table.columns) {
    text += " " + markdown_field(column) + " |";
    line += "---:|";
  }
  text += "\n" + line + "\n";
  for (const auto& row : table.rows) {
    text += "| " + markdown_field(row.label) + " |";
    for (const auto& cell : row.cells) text += " " + to_text(cell) + " |";
    text += "\n";
  }
  return text;
}

std::string to_csv(const ResultTable& table) {
  std::string text = csv_field(table.row_heading.empty() ? "row" : table.row_heading);
  for (const auto& column : table.columns)
    text += "," + csv_field(column) + "," + csv_field(column + " standard deviation");
  text += "\r\n";
  for (const auto& row : table.rows) {
    text += csv_field(row.label);
    for (const auto& cell : row.cells)
      text += "," + (cell.mean ? Json(*cell.mean).dump() : "") + "," + (cell.spread ? Json(*cell.spread).dump() : "");
    text += "\r\n";
  }
  return text;
}

std::string to_html(const ResultTable& table) {
  std::string text = "<table><caption>" + html_escaped(table.title) + " (%)</caption>\n<tr><th>" +
                     html_escaped(table.row_heading) + "</th>";
  for (const auto& column : table.columns) text += "<th>" + html_escaped(column) + "</th>";
  text += "</tr>\n";
  for (const auto& row : table.rows) {
    text += "<tr><th>" + html_escaped(row.label) + "</th>";
    for (const auto& cell : row.cells) text += "<td>" + to_text(cell) + "</td>";
    text += "</tr>\n";
  }
  return text + "</table>\n";
}

Json to_json(const ResultTable& table) {
  Json json = {{"title", table.title},
               {"unit", "percent"},
               {"row_heading", table.row_heading},
               {"columns", table.columns},
               {"rows", Json::array()}};
  for (const auto& row : table.rows) {
    Json cells = Json::array();
    for (const auto& cell : row.cells)
      cells.push_back({{"mean", cell.mean ? Json(*cell.mean) : Json()},
                       {"standard_deviation", cell.spread ? Json(*cell.spread) : Json()}});
    json["rows"].push_back({{"label", row.label}, {"cells", cells}});
  }
  return json;
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
