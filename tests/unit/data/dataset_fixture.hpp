// A folder for a data set, and what is wrong with it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "data/datasets/dataset.hpp"
#include "data/images/image.hpp"

namespace filo {

namespace fs = std::filesystem;

class DatasetTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("filo-dataset-test-" + std::to_string(getpid()));
    fs::remove_all(folder_);
    root_ = folder_ / "root";
    fs::create_directories(root_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void image(const std::string& path, std::uint8_t value = 7, int width = 8, int height = 6) const {
    fs::create_directories((root_ / path).parent_path());
    write_png(root_ / path, Image(width, height, 1, value));
  }
  void text(const std::string& path, const std::string& content) const {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path, std::ios::binary) << content;
  }
  void write_mvtec(const fs::path& below = "") const {
    const std::string prefix = below.string();
    image(prefix + "bottle/train/good/000.png", 1);
    image(prefix + "bottle/test/good/000.png", 2);
    image(prefix + "bottle/test/broken/000.png", 3);
    image(prefix + "bottle/ground_truth/broken/000_mask.png", 255);
  }
  std::vector<std::string> problems_of(const ScanOptions& options = {}) const {
    std::vector<std::string> lines;
    try {
      scan_dataset(root_, options);
    } catch (const DatasetError& error) {
      for (const DatasetProblem& problem : error.problems()) {
        lines.push_back(problem.path + ": " + problem.reason);
        EXPECT_THAT(error.what(), testing::HasSubstr(lines.back()));
      }
      EXPECT_EQ(error.exit_code(), ExitCode::usage);
    }
    return lines;
  }
  std::string message_of(const ScanOptions& options = {}) const {
    try {
      scan_dataset(root_, options);
    } catch (const DatasetError& error) {
      return error.what();
    }
    return "accepted";
  }

  fs::path folder_, root_;
};

}  // namespace filo
