#include <gtest/gtest.h>

#include "cluster/communicator.hpp"
#include "cluster/session.hpp"

namespace filo::test {
Communicator* world = nullptr;
}

int main(int argc, char** argv) {
  filo::MpiSession session;
  testing::InitGoogleTest(&argc, argv);
  if (session.rank() != 0) {  // one report; failures of other ranks show in their exit code and on stderr
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
  }
  return session.run([&] {
    const auto communicator = filo::make_mpi_communicator();
    filo::test::world = communicator.get();
    const int failed = RUN_ALL_TESTS();
    std::int32_t anywhere = failed;
    communicator->all_reduce_max(&anywhere, 1);
    if (failed != 0 && session.rank() != 0) std::fprintf(stderr, "rank %d failed\n", session.rank());
    return static_cast<int>(anywhere);
  });
}
