#include "base/error.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace filo {
namespace {

// Guards the one-line form that users and tools read: where first, then what was found and expected.
TEST(Error, SaysWhereThenTheProblem) {
  const Error error("settings: demo.yaml:12: model.clip", "found 3, expected a folder");
  EXPECT_STREQ(error.what(), "settings: demo.yaml:12: model.clip: found 3, expected a folder");
}

// Guards the contract of the exit codes.
TEST(Error, CarriesTheExitCode) {
  EXPECT_EQ(Error("a", "b").exit_code(), ExitCode::failed);
  EXPECT_EQ(UsageError("a", "b").exit_code(), ExitCode::usage);
  EXPECT_EQ(Error("a", "b", ExitCode::stopped_early).exit_code(), ExitCode::stopped_early);
  EXPECT_EQ(static_cast<int>(ExitCode::done), 0);
  EXPECT_EQ(static_cast<int>(ExitCode::failed), 1);
  EXPECT_EQ(static_cast<int>(ExitCode::usage), 2);
  EXPECT_EQ(static_cast<int>(ExitCode::stopped_early), 75);
}

// Guards that a UsageError is caught where an Error is: main has one handler.
TEST(Error, UsageErrorIsAnError) { EXPECT_THROW(throw UsageError("a", "b"), Error); }

}  // namespace
}  // namespace filo
