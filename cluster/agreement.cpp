#include "cluster/agreement.hpp"

namespace filo {

int agree_stop(Communicator& communicator, int local_signal) {
  std::int32_t signal = local_signal;
  communicator.all_reduce_max(&signal, 1);
  return signal;
}

bool any_rank(Communicator& communicator, bool mine) {
  std::int32_t any = mine ? 1 : 0;
  communicator.all_reduce_max(&any, 1);
  return any != 0;
}

std::string broadcast_text(Communicator& communicator, std::string text) {
  std::uint64_t bytes = text.size();
  communicator.broadcast(&bytes, sizeof bytes, 0);
  text.resize(bytes);
  communicator.broadcast(text.data(), bytes, 0);
  return text;
}

}  // namespace filo
