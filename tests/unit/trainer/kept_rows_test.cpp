#include "trainer/kept_rows.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "../support/scratch_folder.hpp"

namespace filo {
namespace {

constexpr std::size_t width = 3, count = 10;

// Row r holds 3 r, 3 r + 1, 3 r + 2.
std::vector<float> rows(std::size_t first, std::size_t number) {
  std::vector<float> made(number * width);
  std::iota(made.begin(), made.end(), static_cast<float>(first * width));
  return made;
}

void expect_first_rows(const KeptRows& kept, std::size_t number) {
  ASSERT_EQ(kept.size(), number);
  EXPECT_EQ(std::vector<float>(kept.values().begin(), kept.values().end()), rows(0, number));
}

// 4, 3 and 3 rows.
std::string whole_file(const std::filesystem::path& path) {
  KeptRows kept(path, count, width);
  kept.append(rows(0, 4));
  kept.append(rows(4, 3));
  kept.append(rows(7, 3));
  return read_file(path);
}

TEST(KeptRows, AreThereForTheNextProcess) {
  // Guards what is finished: it is read again, and the file goes on where it ends.
  const ScratchFolder scratch;
  const auto path = scratch.folder / "kept" / "rows";
  expect_first_rows(KeptRows(path, count, width), 0);
  KeptRows(path, count, width).append(rows(0, 4));
  KeptRows again(path, count, width);
  expect_first_rows(again, 4);
  again.append(rows(4, 6));
  expect_first_rows(again, 10);
  expect_first_rows(KeptRows(path, count, width), 10);
}

TEST(KeptRows, CountUpToWhereTheFileIsCutOffAndGoOnFromThere) {
  // Guards kill -9 and power losses in the middle of a write, wherever.
  const ScratchFolder scratch;
  const auto path = scratch.folder / "rows";
  const std::string whole = whole_file(path);
  const std::size_t record = whole.size() - (16 + 64 + 3 * width * 4), second = record - (16 + 64 + 3 * width * 4);
  for (std::size_t length = 0; length < whole.size(); length += 7) {
    write_file_atomically(path, whole.substr(0, length));
    KeptRows kept(path, count, width);
    const std::size_t there = length < second ? 0 : length < record ? 4 : 7;
    expect_first_rows(kept, there);
    kept.append(rows(there, count - there));
    expect_first_rows(KeptRows(path, count, width), count);
  }
}

TEST(KeptRows, CountUpToADamagedByte) {
  // Guards numbers that a disk has changed, and headers that ask for memory without end: at every byte.
  const ScratchFolder scratch;
  const auto path = scratch.folder / "rows";
  const std::string whole = whole_file(path);
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x80);
    write_file_atomically(path, damaged);
    const KeptRows kept(path, count, width);
    EXPECT_LT(kept.size(), count) << at;
    expect_first_rows(kept, kept.size());
  }
}

TEST(KeptRows, OfAnotherCountOrOutOfTurnDoNotCount) {
  // Guards records that two processes wrote over each other, and rows beyond the last.
  const ScratchFolder scratch;
  const auto path = scratch.folder / "rows";
  const std::string whole = whole_file(path);
  expect_first_rows(KeptRows(path, 8, width), 7);
  write_file_atomically(path, whole + whole);
  expect_first_rows(KeptRows(path, 2 * count, width), count);
}

TEST(KeptRows, ThatCannotBeReadArePassedOver) {
  // Guards a folder in the file's place: no row counts, and the error is told when one is to be written.
  const ScratchFolder scratch;
  std::filesystem::create_directories(scratch.folder / "rows/inside");
  KeptRows kept(scratch.folder / "rows", count, width);
  expect_first_rows(kept, 0);
  EXPECT_THROW(kept.append(rows(0, 1)), Error);
}

}  // namespace
}  // namespace filo
