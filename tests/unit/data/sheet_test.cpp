// Guards data/datasets/sheet.hpp: what a data set has, counted and drawn.
#include "data/datasets/sheet.hpp"

#include "tests/unit/data/dataset_fixture.hpp"

namespace filo {
namespace {

class SheetTest : public DatasetTest {
 protected:
  void SetUp() override {
    DatasetTest::SetUp();
    image("cup/good/a.png", 50, 80, 40);
    image("cup/good/b.png", 60, 40, 40);
    image("cup/chipped/c.png", 70, 320, 160);
    image("cup/chipped/d.png", 80, 320, 160);
    Image mask(320, 160, 1);
    mask.pixels[mask.offset(200, 100)] = 1;  // of one pixel: shrunk by two, it must still be seen
    write_png(root_ / "cup/chipped_c_mask.png", mask);
    fs::create_directories(root_ / "cup/masks/chipped");
    fs::rename(root_ / "cup/chipped_c_mask.png", root_ / "cup/masks/chipped/c.png");
    dataset_ = scan_dataset(root_, {.masks = MaskRule::optional});
  }
  Dataset dataset_;
};

TEST_F(SheetTest, ImagesAreCountedByClassSplitAndDefect) {
  const auto groups = groups_of(dataset_);
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].defect, "good");
  EXPECT_EQ(groups[0].masks, 0u);
  EXPECT_EQ(groups[0].size_counts, (std::map<std::pair<int, int>, int>{{{80, 40}, 1}, {{40, 40}, 1}}));
  EXPECT_EQ(groups[1].defect, "chipped");
  EXPECT_EQ(groups[1].label, 1);
  EXPECT_EQ(groups[1].images.size(), 2u);
  EXPECT_EQ(groups[1].masks, 1u);
}

TEST_F(SheetTest, SamplesLieInRowsWithTheirMasksOutlined) {
  const Image sheet = contact_sheet(groups_of(dataset_), dataset_);
  EXPECT_EQ(sheet.width, 8 * 164 + 4);
  EXPECT_EQ(sheet.height, 2 * 164 + 4);
  const auto red = [&](int x, int y) { return static_cast<int>(sheet.pixels[sheet.offset(x, y)]); };
  EXPECT_EQ(red(4 + 80, 4 + 80), 50);         // a.png, in the middle of the first tile
  EXPECT_EQ(red(4 + 80, 4 + 20), 32);         // above it: half as high as wide
  EXPECT_EQ(red(168 + 80, 4 + 20), 60);       // b.png fills its tile
  EXPECT_EQ(red(4 + 60, 168 + 80), 70);       // c.png
  EXPECT_EQ(red(4 + 100, 168 + 40 + 50), 0);  // its outlined pixel
  EXPECT_EQ(red(168 + 100, 168 + 40 + 50), 80);
}

TEST_F(SheetTest, AFileThatIsGoneIsNamed) {
  fs::remove(root_ / "cup/chipped/d.png");
  try {
    contact_sheet(groups_of(dataset_), dataset_);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("cup/chipped/d.png"));
  }
}

}  // namespace
}  // namespace filo
