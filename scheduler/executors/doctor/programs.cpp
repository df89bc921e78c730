#include <unistd.h>

#include "scheduler/executors/doctor/tools.hpp"
#include "scheduler/executors/machine.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
using Verdict = Check::Verdict;

Check check_worker(const std::string& version, const fs::path& worker) {
  const CommandResult ran = try_to_run({worker.string(), "--version"});
  const std::string told = first_line(ran.output);
  if (!ran.ok)
    return {"filo-worker", Verdict::bad, worker.string() + ": " + shortened(ran.output),
            "make build, or name the program in FILO_WORKER or in the cluster file's key worker"};
  if (told != "filo-worker " + version)
    return {"filo-worker", Verdict::bad, worker.string() + " is " + told + ", filo is " + version,
            "build both from one checkout: make build"};
  return {"filo-worker", Verdict::good, worker.string() + ", " + told};
}

Check check_mpirun(const fs::path& worker) {
  const CommandResult version = try_to_run({"mpirun", "--version"});
  if (!version.ok)
    return {"mpirun", Verdict::bad, shortened(version.output),
            "install Open MPI (tools/setup), or load its module; filo run needs it"};
  const std::string environment = geteuid() == 0 ? "OMPI_ALLOW_RUN_AS_ROOT=1" : "FILO_DOCTOR=1";
  const std::string confirm = geteuid() == 0 ? "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1" : "FILO_DOCTOR=1";
  const TemporaryFolder folder(fs::temp_directory_path());
  const CommandResult ran =
      try_to_run({"env", environment, confirm, "mpirun", "-np", "2", "--oversubscribe", worker.string(), "features",
                  "--workspace", folder.path().string(), "--stage", no_stage},
                 60);
  if (!two_ranks_came_up(ran.output))
    return {"mpirun", Verdict::bad, "two ranks of filo-worker do not come up: " + shortened(ran.output),
            "the worker must be built with the MPI that mpirun belongs to: " + first_line(version.output)};
  return {"mpirun", Verdict::good, first_line(version.output) + ", two ranks of filo-worker come up"};
}

Check check_gpus() {
  const std::size_t gpus = this_machine().gpus.size();
  if (gpus == 0)
    return {"CUDA", Verdict::warning, "no NVIDIA GPU on this machine, or none that CUDA_VISIBLE_DEVICES leaves",
            "none needed where stages run on other machines, or with resources.gpus: 0"};
  const CommandResult driver = try_to_run({"nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader"});
  if (!driver.ok)
    return {"CUDA", Verdict::bad, std::to_string(gpus) + " GPUs, but nvidia-smi fails: " + shortened(driver.output),
            "install the NVIDIA driver's tools, or ask the administrator"};
  return {"CUDA", Verdict::good, std::to_string(gpus) + " GPUs, driver " + first_line(driver.output)};
}

}  // namespace

std::vector<Check> check_programs(const std::string& version, const fs::path& worker) {
  std::vector<Check> checks = {check_worker(version, worker)};
  if (checks[0].verdict == Verdict::good) checks.push_back(check_mpirun(worker));
  checks.push_back(check_gpus());
  return checks;
}

}  // namespace filo
