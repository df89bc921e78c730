#include "app/filo/commands.hpp"
#include "base/log.hpp"

int main(int argc, char** argv) {
  filo::start_logging("filo");
  CLI::App program("Control plane of the FiLo++ training service: plans, runs and watches experiments.", "filo");
  filo::add_dataset_command(program);
  filo::add_features_command(program);
  filo::add_checkpoints_command(program);
  filo::add_descriptions_command(program);
  filo::add_config_command(program);
  filo::add_plan_command(program);
  filo::add_run_command(program);
  filo::add_submit_command(program);
  filo::add_reconcile_command(program);
  filo::add_cancel_command(program);
  filo::add_retry_command(program);
  filo::add_status_command(program);
  filo::add_serve_command(program);
  filo::add_logs_command(program);
  filo::add_report_command(program);
  filo::add_track_command(program);
  filo::add_doctor_command(program);
  filo::add_bench_command(program);
  return filo::run_program(program, argc, argv);
}
