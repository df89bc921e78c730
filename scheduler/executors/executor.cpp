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
  const ResourceSettings usual;
  if (resources.hang_timeout_s != usual.hang_timeout_s)
    options.insert(options.end(), {"--hang-timeout", std::to_string(resources.hang_timeout_s)});
  if (resources.prefetch_memory != usual.prefetch_memory)
    options.insert(options.end(), {"--prefetch-memory", resources.prefetch_memory});
  if (resources.shard_size != usual.shard_size) options.insert(options.end(), {"--shard-size", resources.shard_size});
  if (!resources.local_copy.empty()) options.insert(options.end(), {"--local-copy", resources.local_copy});
  return options;
}

}  // namespace filo
