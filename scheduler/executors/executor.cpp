#include "scheduler/executors/executor.hpp"

namespace filo {

std::string to_string(EndCause cause) {
  switch (cause) {
    case EndCause::exited:
      return "exited";
    case EndCause::signalled:
      return "signalled";
    case EndCause::timeout:
      return "timeout";
    case EndCause::out_of_memory:
      return "out_of_memory";
    case EndCause::node_failure:
      return "node_failure";
    case EndCause::unhealthy_node:
      return "unhealthy_node";
    case EndCause::preempted:
      return "preempted";
    case EndCause::cancelled:
      return "cancelled";
    case EndCause::vanished:
      return "vanished";
  }
  return "";
}

std::vector<std::string> worker_options(const ResourceSettings& resources) {
  std::vector<std::string> options;
  if (resources.gpus > 0) options = {"--gpus", std::to_string(resources.gpus)};
  if (resources.hang_timeout_s != ResourceSettings().hang_timeout_s)
    options.insert(options.end(), {"--hang-timeout", std::to_string(resources.hang_timeout_s)});
  return options;
}

}  // namespace filo
