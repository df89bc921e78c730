// `filo doctor`: tries what the programs rest on, and says of each thing what was found and how it is mended.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "settings/cluster.hpp"

namespace filo {

struct Check {
  enum class Verdict {
    good,
    warning,  // works, but not as well as it could, or only part of it
    bad       // something will fail
  };
  std::string name;  // "file locks"
  Verdict verdict = Verdict::good;
  std::string found;   // one line
  std::string mend{};  // one line; "" when good
};
std::string to_string(Check::Verdict verdict);
Json to_json(const Check& check);

// The programs on this machine: filo's and filo-worker's versions (must be equal), mpirun, two ranks of the worker
// under it, GPUs. `worker` may be missing.
std::vector<Check> check_programs(const std::string& version, const std::filesystem::path& worker);

// The workspace's file system: locks between processes, exclusive creation, rename over an existing file, fsync and how
// long it takes, clock against this machine's, free space. Makes WORKSPACE and a folder in it, which it removes again.
std::vector<Check> check_workspace(const std::filesystem::path& workspace);

// Slurm: its commands and version, the controller, the partition, the site's limits against the settings, and one job
// of a minute that looks at the workspace, the worker (of filo's version, in the container where there is one) and its
// MPI launch from a node. A job still pending after
// `job_wait_s` is cancelled, and that is a warning; 0: no job is sent.
std::vector<Check> check_cluster(const ClusterSettings& settings, const std::filesystem::path& workspace,
                                 const std::string& version, double job_wait_s);

}  // namespace filo
