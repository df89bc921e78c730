#include "scheduler/report/formats.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace filo {
namespace {

using Row = std::vector<std::string>;

// Width on a terminal: bytes that are not UTF-8 continuations.
std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](unsigned char c) { return (c & 0xC0) != 0x80; }));
}

std::string padded(const std::string& text, std::size_t to, bool right) {
  const std::string blanks(to > width(text) ? to - width(text) : 0, ' ');
  return right ? blanks + text : text + blanks;
}

std::string number(double value) { return formatted(value, "%.1f"); }

std::string interval_text(const std::pair<double, double>& interval) {
  return "[" + number(interval.first) + ", " + number(interval.second) + "]";
}

std::string missing_text(const Cell& cell) {
  if (cell.there >= cell.trials) return "";
  return " [" + std::to_string(cell.there) + " of " + std::to_string(cell.trials) + "]";
}

// Ours alone, without the paper's.
std::string own_text(const Cell& cell) {
  if (!cell.mean) return "-";
  std::string text = number(*cell.mean);
  if (cell.spread) text += " ± " + number(*cell.spread);
  if (cell.interval) text += " " + interval_text(*cell.interval);
  return text + missing_text(cell);
}

std::string latex_value(const Cell& cell) {
  if (!cell.mean) return "--";
  std::string text = number(*cell.mean);
  if (cell.spread) text += " $\\pm$ " + number(*cell.spread);
  if (cell.interval) text += " {\\scriptsize " + interval_text(*cell.interval) + "}";
  return text + missing_text(cell);
}

std::string paper_text(const Cell& cell) { return cell.paper ? " (" + number(*cell.paper) + ")" : ""; }

std::string unit_text(const ResultTable& table) {
  return std::string(" (%") + (table.has_intervals() ? ", [95 % intervals]" : "") +
         (table.has_paper() ? "; the paper's in brackets)" : ")");
}

// Runs of equal groups: (group, columns).
std::vector<std::pair<std::string, std::size_t>> column_groups(const ResultTable& table) {
  std::vector<std::pair<std::string, std::size_t>> groups;
  for (const auto& column : table.columns) {
    if (groups.empty() || groups.back().first != column.group) groups.emplace_back(column.group, 0);
    ++groups.back().second;
  }
  return groups;
}

std::string caption(const ResultTable& table) { return table.title + unit_text(table); }

// The heading and the columns' titles; then each row's label and cells.
template <typename Label, typename Value>
std::vector<Row> rows_of(const ResultTable& table, Label label, Value value) {
  std::vector<Row> rows = {{table.row_heading}};
  for (const auto& column : table.columns) rows[0].push_back(column.title());
  for (const auto& row : table.rows) {
    rows.push_back({label(row)});
    for (const auto& cell : row.cells) rows.back().push_back(value(cell));
  }
  return rows;
}

std::vector<Row> rows_of(const TextTable& table) {
  std::vector<Row> rows = {table.columns};
  rows.insert(rows.end(), table.rows.begin(), table.rows.end());
  return rows;
}

template <typename Write>
std::vector<Row> each_cell(std::vector<Row> rows, Write write) {
  for (auto& row : rows)
    for (auto& cell : row) cell = write(cell);
  return rows;
}

std::string joined(const Row& cells, const std::string& between) {
  std::string text;
  for (std::size_t i = 0; i < cells.size(); ++i) text += (i == 0 ? "" : between) + cells[i];
  return text;
}

// `numbers`: all columns but the first are aligned to the right.
std::string terminal_table(const std::string& title, const std::vector<Row>& rows, bool numbers) {
  std::vector<std::size_t> widths(rows[0].size());
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  std::string text = title + "\n";
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i)
      line += (i == 0 ? "" : "  ") + padded(row[i], widths[i], numbers && i > 0);
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

std::string markdown_table(const std::string& title, const std::vector<Row>& rows, bool numbers) {
  std::string text = "### " + title + "\n\n";
  for (std::size_t i = 0; i < rows.size(); ++i) {
    text += "| " + joined(rows[i], " | ") + " |\n";
    if (i > 0) continue;
    text += "|";
    for (std::size_t column = 0; column < rows[0].size(); ++column) text += numbers && column > 0 ? "---:|" : "---|";
    text += "\n";
  }
  return text;
}

std::string csv_table(const std::vector<Row>& rows) {
  std::string text;
  for (const auto& row : rows) text += joined(each_cell({row}, csv_field)[0], ",") + "\r\n";
  return text;
}

// `groups`: a line above the header, or ""; `rows`: the header first.
std::string latex_table(const std::string& title, const std::string& groups, const std::vector<Row>& rows,
                        char alignment) {
  std::string text = "\\begin{table}\n\\centering\n\\caption{" + latex_escaped(title) + "}\n\\begin{tabular}{l" +
                     std::string(rows[0].size() - 1, alignment) + "}\n\\toprule\n" + groups;
  for (std::size_t i = 0; i < rows.size(); ++i)
    text += joined(rows[i], " & ") + " \\\\\n" + (i == 0 ? "\\midrule\n" : "");
  return text + "\\bottomrule\n\\end{tabular}\n";
}

std::string html_table(const std::string& attributes, const std::string& title, const std::string& groups,
                       const std::vector<Row>& rows) {
  std::string text =
      "<table" + attributes + "><caption>" + html_escaped(title) + "</caption>\n<thead>" + groups + "<tr>";
  for (const auto& cell : rows[0]) text += "<th scope=\"col\">" + cell + "</th>";
  text += "</tr></thead>\n<tbody>";
  for (std::size_t row = 1; row < rows.size(); ++row) {
    text += "<tr><th scope=\"row\">" + rows[row][0] + "</th>";
    for (std::size_t i = 1; i < rows[row].size(); ++i) text += "<td>" + rows[row][i] + "</td>";
    text += "</tr>\n";
  }
  return text + "</tbody></table>\n";
}

// Whether the columns' groups have names: then these stand in a line above the metrics.
bool has_groups(const ResultTable& table) {
  return std::any_of(table.columns.begin(), table.columns.end(),
                     [](const TableColumn& column) { return !column.group.empty(); });
}

// With the metrics alone as the columns' titles.
std::vector<Row> with_metrics(const ResultTable& table, std::vector<Row> rows) {
  for (std::size_t i = 0; i < table.columns.size(); ++i) rows[0][i + 1] = table.columns[i].metric;
  return rows;
}

}  // namespace

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
  std::string text = terminal_table(caption(table), rows_of(table, label, to_text), /*numbers=*/true);
  for (const auto& note : table.notes) text += note + "\n";
  return text;
}

std::string to_terminal(const TextTable& table) { return terminal_table(table.title, rows_of(table), false); }

std::string to_markdown(const ResultTable& table) {
  const auto label = [](const TableRow& row) {
    return markdown_field(row.label) + (row.mark.empty() ? "" : " <sup>" + row.mark + "</sup>");
  };
  const auto value = [](const Cell& cell) {
    return (cell.best ? "**" + own_text(cell) + "**" : own_text(cell)) + paper_text(cell);
  };
  std::vector<Row> rows = rows_of(table, label, value);
  rows[0] = each_cell({rows[0]}, markdown_field)[0];
  std::string text = markdown_table(caption(table), rows, /*numbers=*/true);
  for (const auto& note : table.notes) text += "\n" + note + "\n";
  return text;
}

std::string to_markdown(const TextTable& table) {
  return markdown_table(table.title, each_cell(rows_of(table), markdown_field), false);
}

std::string to_csv(const ResultTable& table) {
  const bool paper = table.has_paper(), intervals = table.has_intervals(), reasons = table.has_reasons();
  std::vector<Row> rows = {{table.row_heading.empty() ? "row" : table.row_heading}};
  for (const auto& column : table.columns) {
    rows[0].insert(rows[0].end(), {column.title(), column.title() + " standard deviation"});
    if (intervals) rows[0].insert(rows[0].end(), {column.title() + " 95% low", column.title() + " 95% high"});
    if (paper) rows[0].push_back(column.title() + " paper");
    if (reasons) rows[0].push_back(column.title() + " reason");
  }
  const auto value = [](const std::optional<double>& number) { return number ? Json(*number).dump() : ""; };
  for (const auto& row : table.rows) {
    rows.push_back({row.label});
    for (const auto& cell : row.cells) {
      rows.back().insert(rows.back().end(), {value(cell.mean), value(cell.spread)});
      if (intervals && cell.interval)
        rows.back().insert(rows.back().end(), {value(cell.interval->first), value(cell.interval->second)});
      else if (intervals)
        rows.back().insert(rows.back().end(), 2, "");
      if (paper) rows.back().push_back(value(cell.paper));
      if (reasons) rows.back().push_back(cell.reason);
    }
  }
  return csv_table(rows);
}

std::string to_csv(const TextTable& table) { return csv_table(rows_of(table)); }

std::string to_latex(const ResultTable& table) {
  std::string groups, rules;
  std::size_t first = 2;
  for (const auto& [group, columns] : column_groups(table)) {
    groups += " & \\multicolumn{" + std::to_string(columns) + "}{c}{" + latex_escaped(group) + "}";
    rules += "\\cmidrule(lr){" + std::to_string(first) + "-" + std::to_string(first + columns - 1) + "}";
    first += columns;
  }
  const auto label = [](const TableRow& row) {
    return latex_escaped(row.label) + (row.mark.empty() ? "" : "\\textsuperscript{" + row.mark + "}");
  };
  const auto value = [](const Cell& cell) {
    const std::string own = latex_value(cell);
    return (cell.best ? "\\textbf{" + own + "}" : own) + paper_text(cell);
  };
  std::vector<Row> rows = with_metrics(table, rows_of(table, label, value));
  rows[0] = each_cell({rows[0]}, latex_escaped)[0];
  std::string text = latex_table(caption(table), has_groups(table) ? groups + " \\\\\n" + rules + "\n" : "", rows, 'r');
  for (const auto& note : table.notes) text += "\n\\footnotesize " + latex_escaped(note) + "\n";
  return text + "\\end{table}\n";
}

std::string to_latex(const TextTable& table) {
  return latex_table(table.title, "", each_cell(rows_of(table), latex_escaped), 'l') + "\\end{table}\n";
}

std::string to_html(const ResultTable& table) {
  const bool paper = table.has_paper();
  std::string groups = "<tr><td></td>";
  for (const auto& [group, columns] : column_groups(table))
    groups += "<th class=\"group\" scope=\"colgroup\" colspan=\"" + std::to_string(columns) + "\">" +
              html_escaped(group) + "</th>";
  const auto label = [](const TableRow& row) {
    return html_escaped(row.label) + (row.mark.empty() ? "" : "<sup>" + row.mark + "</sup>");
  };
  const auto value = [&](const Cell& cell) {
    std::string text = cell.best ? "<b>" + own_text(cell) + "</b>" : own_text(cell);
    if (paper) text += " <span class=\"paper\">" + (cell.paper ? paper_text(cell).substr(1) : "") + "</span>";
    return text;
  };
  std::vector<Row> rows = with_metrics(table, rows_of(table, label, value));
  rows[0] = each_cell({rows[0]}, html_escaped)[0];
  std::string text = html_table("", caption(table), has_groups(table) ? groups + "</tr>\n" : "", rows);
  for (const auto& note : table.notes) text += "<p class=\"note\">" + html_escaped(note) + "</p>\n";
  return text;
}

std::string to_html(const TextTable& table) {
  return html_table(" class=\"text\"", table.title, "", each_cell(rows_of(table), html_escaped));
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
                       {"interval", cell.interval ? Json({cell.interval->first, cell.interval->second}) : Json()},
                       {"reason", cell.reason.empty() ? Json() : Json(cell.reason)},
                       {"paper", value(cell.paper)},
                       {"best", cell.best},
                       {"trials_done", cell.there},
                       {"trials", cell.trials}});
    json["rows"].push_back({{"label", row.label}, {"note", row.mark}, {"cells", cells}});
  }
  return json;
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
