// How a job starts the worker on its nodes: what both the batch script and doctor's test job do. Text for bash.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "settings/cluster.hpp"
#include "settings/resources.hpp"

namespace filo {

// 'text', safe for any shell whatever it holds (but NUL).
std::string shell_quoted(const std::string& text);

// Environment, modules and prologue.
std::string slurm_site_preamble(const ClusterSettings& settings);

// The launcher, the container that it starts where there is one, and `"$worker"`; its arguments follow. `folders`: the
// shell's variables whose folders the worker needs, mounted where they are outside ("" in one of them: left out).
std::string slurm_launch_command(const ClusterSettings& settings, const ResourceSettings& resources,
                                 const std::vector<std::string>& folders);

// filo-worker as the nodes, or the container, have it: the settings' own, or this machine's, or the one that the
// image's PATH leads to.
std::string worker_on_nodes(const ClusterSettings& settings);

// Throws UsageError where a container's runtime cannot be told of a folder that it has to mount: it takes ',' and ':'
// for its own.
void expect_mountable(const ClusterSettings& settings, const std::filesystem::path& folder);

}  // namespace filo
