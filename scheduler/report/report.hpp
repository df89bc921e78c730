// The folder that a run ends with: one HTML page without outside resources, its pictures, and the tables as JSON, CSV
// and Markdown.
#pragma once

#include <filesystem>
#include <string>

#include "scheduler/plan/plan.hpp"
#include "workspace/workspace.hpp"

namespace filo {

enum class ReportFormat { terminal, markdown, latex, csv, html, json };

// The experiment's tables in one format (html: the whole page; its pictures are found beside report.html only; latex:
// for \input, with the package booktabs). A search has a further table: its draws, best first.
std::string report_text(const Workspace& workspace, const Plan& plan, ReportFormat format);

// Everything a program may want of it: tables, trials with all metrics, checkpoints' paths.
Json report_json(const Workspace& workspace, const Plan& plan);

// Writes experiments/NAME/report/{report.html, results.json, results.csv, results.md, results.tex, heat_maps/...} whole
// or not at all, and returns the folder. Results that are not there yet are shown as "-".
std::filesystem::path write_report(const Workspace& workspace, const Plan& plan);

}  // namespace filo
