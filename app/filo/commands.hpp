// One function per subcommand (or family of them) of `filo`, each in a file of its own.
#pragma once

#include "app/command_line.hpp"

namespace filo {

void add_dataset_command(CLI::App& program);       // dataset add | show | verify | list | remove | generate
void add_features_command(CLI::App& program);      // features list | show | verify | repair | gc
void add_checkpoints_command(CLI::App& program);   // checkpoints list | show | verify | best | diff | tag | gc | ...
void add_descriptions_command(CLI::App& program);  // descriptions import
void add_config_command(CLI::App& program);        // config show
void add_plan_command(CLI::App& program);          // plan
void add_run_command(CLI::App& program);           // run
void add_submit_command(CLI::App& program);        // submit
void add_reconcile_command(CLI::App& program);     // reconcile
void add_cancel_command(CLI::App& program);        // cancel
void add_retry_command(CLI::App& program);         // retry
void add_serve_command(CLI::App& program);         // serve
void add_status_command(CLI::App& program);        // status
void add_logs_command(CLI::App& program);          // logs
void add_report_command(CLI::App& program);        // report
void add_track_command(CLI::App& program);         // track
void add_doctor_command(CLI::App& program);        // doctor
void add_bench_command(CLI::App& program);         // bench scheduler | serve

}  // namespace filo
