// Tables in the forms that people and programs read: a terminal, Markdown, CSV (RFC 4180), LaTeX (table environments;
// they need the package booktabs), HTML and JSON. A new format goes beside them, and into ReportFormat
// (scheduler/report/report.hpp).
#pragma once

#include <string>

#include "base/json.hpp"
#include "scheduler/report/tables.hpp"

namespace filo {

std::string to_terminal(const ResultTable& table);  // aligned columns
std::string to_terminal(const TextTable& table);
std::string to_markdown(const ResultTable& table);
std::string to_markdown(const TextTable& table);
std::string to_csv(const ResultTable& table);
std::string to_csv(const TextTable& table);
std::string to_latex(const ResultTable& table);
std::string to_latex(const TextTable& table);
std::string to_html(const ResultTable& table);
std::string to_html(const TextTable& table);
Json to_json(const ResultTable& table);

// "84.3", "84.3 ± 0.4", "84.3 [81.0, 87.2]" with its interval, "84.3 [1 of 3]" while trials are missing, "-", with the
// paper's value "84.3 (85.0)".
std::string to_text(const Cell& cell);

std::string html_escaped(const std::string& text);
std::string latex_escaped(const std::string& text);
std::string csv_field(const std::string& text);       // quoted where it must be
std::string markdown_field(const std::string& text);  // for a cell of a table

}  // namespace filo
