#include "base/error.hpp"
#include "cluster/communicator.hpp"

namespace filo {

std::unique_ptr<Communicator> make_nccl_communicator(Communicator&, const NcclOptions&) {
  throw Error("nccl", "built without CUDA: configure with -DFILO_CUDA=ON where nvcc and NCCL are, or use the CPU");
}

bool built_with_nccl() { return false; }

}  // namespace filo
