#include "base/installed.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/files.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

class ShippedFile : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(prefix_);
    for (const char* folder : {"bin", "share/filo/configs/models", "checkout/build/bin", "checkout/configs/models"})
      fs::create_directories(prefix_ / folder);
    for (const char* file : {"share/filo/configs/models/x.yaml", "checkout/configs/models/x.yaml", "share/filo/x.yaml"})
      write_file_atomically(prefix_ / file, "x");
  }
  void TearDown() override { fs::remove_all(prefix_); }

  const fs::path prefix_ = fs::path(testing::TempDir()) / ("filo_shipped_file." + std::to_string(getpid()));
};

TEST_F(ShippedFile, LiesBesideAnInstalledProgram) {
  EXPECT_EQ(shipped_file("configs/models/x.yaml", prefix_ / "bin"), prefix_ / "share/filo/configs/models/x.yaml");
}

TEST_F(ShippedFile, LiesInTheCheckoutOfAProgramThatIsNotInstalled) {
  EXPECT_EQ(shipped_file("configs/models/x.yaml", prefix_ / "checkout/build/bin"),
            prefix_ / "checkout/configs/models/x.yaml");
}

TEST_F(ShippedFile, OtherPathsStayAsTheyWereGiven) {
  for (const char* path :
       {"", "x.yaml", "other/configs/models/x.yaml", "configs/models/absent.yaml", "configs", "none"})
    EXPECT_EQ(shipped_file(path, prefix_ / "bin"), path);
}

// The reader's own file goes first: a checkout's configs/ may have been edited.
TEST_F(ShippedFile, AFileThatIsThereStays) {
  const fs::path before = fs::current_path();
  fs::current_path(prefix_ / "checkout");
  const fs::path found = shipped_file("configs/models/x.yaml", prefix_ / "bin");
  fs::current_path(before);
  EXPECT_EQ(found, "configs/models/x.yaml");
}

}  // namespace
}  // namespace filo
