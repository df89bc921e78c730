// Guards data/generate/generate.hpp: same seed, same pixels; exact masks of useful sizes; folders appear whole; nothing
// is overwritten.
#include "data/generate/generate.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <set>

#include "base/error.hpp"
#include "base/files.hpp"
#include "data/datasets/dataset.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

class GenerateTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("filo-generate-test-" + std::to_string(getpid()));
    fs::remove_all(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  GenerateOptions options(const std::string& family) const {
    GenerateOptions result;
    result.family = family;
    result.out = folder_ / family;
    result.size = 48;
    result.train = 1;
    result.good = 2;
    result.defective = 7;
    return result;
  }

  fs::path folder_;
};

double share_of(const Image& mask) {
  return static_cast<double>(std::count(mask.pixels.begin(), mask.pixels.end(), 255)) /
         static_cast<double>(mask.pixels.size());
}

TEST_F(GenerateTest, PartsAreReadableAsMvtecAndBoardsAsVisa) {
  for (const auto& [family, format] : {std::pair("parts", DatasetFormat::mvtec), {"boards", DatasetFormat::visa}}) {
    const GenerateResult result = generate_dataset(options(family));
    const Dataset dataset = scan_dataset(folder_ / family, {});
    EXPECT_EQ(dataset.format, format);
    EXPECT_EQ(dataset.images.size(), result.images);
    EXPECT_EQ(dataset.classes.size(), 4u);
    for (const auto& [name, counts] : dataset.classes) {
      EXPECT_EQ(counts.train, 1) << name;
      EXPECT_EQ(counts.test, 9) << name;
      EXPECT_EQ(counts.anomalous, 7) << name;
    }
  }
}

TEST_F(GenerateTest, TheSameSeedGivesTheSameBytesAndAnotherOneDoesNot) {
  GenerateOptions first = options("parts"), second = options("parts"), third = options("parts");
  first.classes = second.classes = third.classes = {"gear"};
  second.out = folder_ / "second";
  third.out = folder_ / "third";
  third.seed = 1;
  for (const auto& each : {first, second, third}) generate_dataset(each);
  const auto digest = [](const GenerateOptions& each) {
    return scan_dataset(each.out, {.format = DatasetFormat::mvtec}).digest;
  };
  EXPECT_EQ(digest(first), digest(second));
  EXPECT_NE(digest(first), digest(third));
}

// No image may stand in both splits: few-shot memories draw from the one, scores from the other.
TEST_F(GenerateTest, AllImagesOfADatasetDiffer) {
  for (const char* family : {"parts", "boards"}) {
    generate_dataset(options(family));
    std::set<std::string> checksums;
    const Dataset dataset = scan_dataset(folder_ / family, {});
    for (const DatasetImage& image : dataset.images) EXPECT_TRUE(checksums.insert(image.sha256).second) << image.path;
  }
}

TEST_F(GenerateTest, EveryKindOfDefectHasAMaskOfUsefulSize) {
  for (const auto& family : generated_families())
    for (const auto& class_name : generated_classes(family)) {
      EXPECT_EQ(share_of(generate_image(class_name, "good", 0, 0, 96).mask), 0) << class_name;
      for (const auto& defect : generated_defects()) {
        double total = 0;
        for (std::uint64_t index = 0; index < 4; ++index) {
          const double share = share_of(generate_image(class_name, defect, 0, index, 96).mask);
          EXPECT_GT(share, 0.0015) << class_name << " " << defect << " " << index;
          EXPECT_LT(share, 0.15) << class_name << " " << defect << " " << index;
          total += share / 4;
        }
        EXPECT_GT(total, 0.003) << class_name << " " << defect;
      }
    }
}

// The mask is where the defect is: without any defect the same scene would look otherwise there. Checked by contrast of
// colour.
TEST_F(GenerateTest, StainsLieWhereTheMaskSays) {
  for (const char* class_name : {"dial", "keypad"}) {
    double inside = 0, outside = 0;
    for (std::uint64_t index = 0; index < 6; ++index) {
      const GeneratedImage drawn = generate_image(class_name, "stain", 3, index, 96);
      double sums[2] = {0, 0}, counts[2] = {0, 0};
      for (std::size_t i = 0; i < drawn.mask.pixels.size(); ++i) {
        const int where = drawn.mask.pixels[i] > 0 ? 1 : 0;
        sums[where] += drawn.image.pixels[3 * i] - drawn.image.pixels[3 * i + 2];  // red - blue: warmth
        ++counts[where];
      }
      inside += sums[1] / counts[1];
      outside += sums[0] / counts[0];
    }
    EXPECT_GT(inside, outside + 6 * 20) << class_name;
  }
}

TEST_F(GenerateTest, RepeatingIsANoOpAndOtherContentIsKept) {
  GenerateOptions wanted = options("boards");
  wanted.classes = {"display"};
  EXPECT_FALSE(generate_dataset(wanted).existed);
  EXPECT_TRUE(generate_dataset(wanted).existed);
  wanted.seed = 5;
  EXPECT_THROW(generate_dataset(wanted), UsageError);
  wanted.out = folder_ / "mine";
  fs::create_directories(wanted.out);
  std::ofstream(wanted.out / "thesis.txt") << "precious";
  EXPECT_THROW(generate_dataset(wanted), UsageError);
  EXPECT_EQ(read_file(wanted.out / "thesis.txt"), "precious");
}

// A failure half way (here: a progress callback that throws) leaves neither the folder nor a temporary one.
TEST_F(GenerateTest, AnInterruptedRunLeavesNothing) {
  const auto stop = [](std::size_t done, std::size_t) {
    if (done == 5) throw Error("test", "stop here");
  };
  EXPECT_THROW(generate_dataset(options("parts"), stop), Error);
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(GenerateTest, WrongOptionsAreUsageErrors) {
  const auto refused = [&](const std::function<void(GenerateOptions&)>& change) {
    GenerateOptions changed = options("parts");
    change(changed);
    EXPECT_THROW(generate_dataset(changed), UsageError);
    EXPECT_FALSE(fs::exists(folder_));
  };
  refused([](auto& o) { o.family = "fruits"; });
  refused([](auto& o) { o.size = 31; });
  refused([](auto& o) { o.size = 5000; });
  refused([](auto& o) { o.train = -1; });
  refused([](auto& o) { o.good = o.defective = 0; });
  refused([](auto& o) { o.classes = {"keypad"}; });  // of the other family
  refused([](auto& o) { o.out = ""; });
  EXPECT_THROW(generate_image("washer", "rust", 0, 0, 64), UsageError);
}

}  // namespace
}  // namespace filo
