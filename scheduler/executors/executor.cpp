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

}  // namespace filo
