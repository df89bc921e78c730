#include "cluster/agreement.hpp"

namespace filo {

int agree_stop(Communicator& communicator, int local_signal) {
  std::int32_t signal = local_signal;
  communicator.all_reduce_max(&signal, 1);
  return signal;
}

}  // namespace filo
