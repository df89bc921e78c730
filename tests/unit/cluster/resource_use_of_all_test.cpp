// What the ranks used is added up on rank 0.
#include <gtest/gtest.h>

#include "cluster/resource_use.hpp"

namespace filo {
namespace {

TEST(ResourceUseOfAll, AddsUpOnRankZero) {
  const auto communicator = make_mpi_communicator();
  const int rank = communicator->rank(), ranks = communicator->world_size();
  ResourceUse mine{
      .cpu_s = 2, .memory_bytes = 100, .gpu_memory_bytes = static_cast<std::uint64_t>(rank), .gpu_use = {}};
  if (rank == ranks - 1) mine.gpu_use = 0.25;  // the others do not know theirs
  const ResourceUse all = resource_use_of_all(*communicator, mine);
  if (rank != 0) return;
  EXPECT_EQ(all.cpu_s, 2 * ranks);
  EXPECT_EQ(all.memory_bytes, 100u * static_cast<unsigned>(ranks));
  EXPECT_EQ(all.gpu_memory_bytes, static_cast<std::uint64_t>(ranks - 1));
  EXPECT_EQ(all.gpu_use, 0.25);
}

}  // namespace
}  // namespace filo
