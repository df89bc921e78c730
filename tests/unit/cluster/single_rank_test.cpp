#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "base/process.hpp"
#include "cluster/communicator.hpp"
#include "cluster/session.hpp"

namespace filo {
namespace {

CapturedOutput run_probe(const std::string& mode) {
  return run_and_capture({"mpirun", "--allow-run-as-root", "--oversubscribe", "-np", "2", ABORT_PROBE, mode}, 30, true);
}

// Guards against jobs that hang when one rank throws: all end, the exit code is the error's, the message is told.
TEST(MpiSession, AnExceptionInOneRankEndsAll) {
  const auto captured = run_probe("run");
  EXPECT_EQ(captured.result.signal, 0);
  EXPECT_EQ(captured.result.exit_code, 2);
  EXPECT_THAT(captured.output, testing::HasSubstr("filo-worker 1/2: probe: settings.yaml: key: found 1, expected 2"));
}

TEST(MpiSession, UnwindingPastTheSessionEndsAll) {
  const auto captured = run_probe("unwinding");
  EXPECT_EQ(captured.result.signal, 0);
  EXPECT_EQ(captured.result.exit_code, 1);
  EXPECT_THAT(captured.output, testing::HasSubstr("left by an exception"));
}

// Guards the use without mpirun, and that an exception in a world of one passes through (the program prints it).
TEST(MpiSession, WithoutMpirunItIsAWorldOfOne) {
  EXPECT_THROW(make_mpi_communicator(), Error);
  MpiSession session;
  EXPECT_EQ(session.world_size(), 1);
  EXPECT_EQ(session.run([] { return 7; }), 7);
  EXPECT_THROW(session.run([]() -> int { throw Error("a", "b"); }), Error);
  const auto communicator = make_mpi_communicator();
  float value = 3;
  communicator->all_reduce_sum(&value, 1);
  EXPECT_EQ(value, 3);
  if (!built_with_nccl()) {
    EXPECT_THROW(make_nccl_communicator(*communicator, {}), Error);
  }
}

// Guards ranks under srun --gpus-per-task, each of which sees one GPU: rank 1 asked for number 1 of one.
TEST(Gpus, EachRankHasOneOfItsOwn) {
  EXPECT_EQ(gpu_of(0, 4, false), 0);
  EXPECT_EQ(gpu_of(3, 4, false), 3);
  EXPECT_EQ(gpu_of(3, 1, true), 0);
  EXPECT_EQ(gpu_of(1, 2, true), 1) << "bound to the host's GPUs together";
  EXPECT_THROW(gpu_of(1, 1, false), Error);
  EXPECT_THROW(gpu_of(2, 2, true), Error);
}

}  // namespace
}  // namespace filo
