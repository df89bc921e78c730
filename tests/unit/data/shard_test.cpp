#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <functional>
#include <thread>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/random.hpp"
#include "data/shards/shards.hpp"

namespace {
bool without_locks = false;
struct WithoutLocks {
  WithoutLocks() { without_locks = true; }
  ~WithoutLocks() { without_locks = false; }
};
}  // namespace

// In place of the C library's, for HDF5 too: while `without_locks`, as on a mount without locks.
extern "C" int flock(int descriptor, int operation) noexcept {
  if (!without_locks) return static_cast<int>(syscall(SYS_flock, descriptor, operation));
  errno = ENOLCK;
  return -1;
}

namespace filo {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const FeatureLayout layout{
    .global_size = 12, .patches = 16, .width = 24, .qkv_layers = {2, 4}, .vv_layers = {4}, .mask_size = 32};
const Json key = {{"clip", "abc"}, {"profile", "paper"}};

FeatureSample sample_of(std::size_t number) {
  Random random(1, "sample", number);
  FeatureSample sample;
  sample.image = "bottle/test/" + std::to_string(number) + ".png";
  sample.class_name = "bottle";
  sample.label = static_cast<int>(number % 2);
  sample.split = number % 3 == 0 ? "train" : "test";
  sample.defect = number % 2 != 0 ? "crack" : "";
  if (number % 2 != 0) sample.boxes = R"([{"box": [1, 2, 3, 4]}])";
  sample.global.resize(12);
  for (float& value : sample.global) value = static_cast<float>(random.normal());
  for (auto* values : {&sample.qkv[2], &sample.qkv[4], &sample.vv[4]}) {
    values->resize(std::size_t{16} * 24);
    for (auto& bits : *values) bits = static_cast<std::uint16_t>(random.next());
  }
  sample.mask.resize(std::size_t{32} * 32);
  for (auto& value : sample.mask) value = static_cast<std::uint8_t>(random.below(2));
  return sample;
}

void expect_equal(const FeatureSample& found, const FeatureSample& expected) {
  EXPECT_EQ(found.image, expected.image);
  EXPECT_EQ(found.class_name, expected.class_name);
  EXPECT_EQ(found.label, expected.label);
  EXPECT_EQ(found.split, expected.split);
  EXPECT_EQ(found.defect, expected.defect);
  EXPECT_EQ(found.boxes, expected.boxes);
  EXPECT_EQ(found.global, expected.global);
  EXPECT_EQ(found.qkv, expected.qkv);
  EXPECT_EQ(found.vv, expected.vv);
  EXPECT_EQ(found.mask, expected.mask);
}

std::vector<std::string> names(std::size_t count) {
  std::vector<std::string> images;
  for (std::size_t i = 0; i < count; ++i) images.push_back(sample_of(i).image);
  return images;
}

template <typename Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

class ShardTest : public testing::Test {
 protected:
  ShardTest() {
    std::string name = (fs::temp_directory_path() / "filo_shards_XXXXXX").string();
    folder = fs::path(mkdtemp(name.data())) / "features";
  }
  ~ShardTest() override { fs::remove_all(folder.parent_path()); }

  void write(std::size_t begin, std::size_t end, std::size_t step = 1, int rank = 0) const {
    ShardWriter writer(folder, layout, key, rank, 3);
    for (std::size_t i = begin; i < end; i += step) writer.append(sample_of(i));
    writer.close();
  }
  void write_finished(std::size_t count) const {
    write(0, count);
    finish_features(folder, layout, key, names(count));
  }
  std::vector<std::string> files() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(folder)) found.push_back(entry.path().filename().string());
    return found;
  }
  void overwrite(const fs::path& path, std::string_view bytes) const {
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  void flip_byte(const fs::path& path, std::uint64_t offset) const {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    const char byte = static_cast<char>(file.get() ^ 0x40);
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(byte);
  }

  fs::path folder;
};

TEST_F(ShardTest, SamplesComeBackBitForBit) {
  write_finished(7);
  EXPECT_THAT(files(),
              testing::UnorderedElementsAre("shard-00000.h5", "shard-00001.h5", "shard-00002.h5", "manifest.json"));
  const ShardReader reader(folder, ShardReader::Verify::always, key);
  ASSERT_EQ(reader.size(), 7u);
  EXPECT_EQ(reader.layout(), layout);
  EXPECT_EQ(reader.key(), key);
  EXPECT_EQ(reader.bytes_per_sample(), 12 * 4 + 3 * 16 * 24 * 2 + 32 * 32u);
  for (std::size_t i = 0; i < 7; ++i) expect_equal(reader.read(i), sample_of(i));
  EXPECT_EQ(reader.find(sample_of(5).image), 5u);
  EXPECT_EQ(reader.find("absent"), std::nullopt);
  EXPECT_THROW(reader.read(7), Error);
  EXPECT_THROW(reader.info(7), Error);

  const FeatureSample global_only = reader.read(3, {.global = true, .maps = false, .mask = false});
  EXPECT_EQ(global_only.global, sample_of(3).global);
  EXPECT_TRUE(global_only.qkv.empty() && global_only.vv.empty() && global_only.mask.empty());
}

// Guards training on several data sets: their folders read as one, and a sample says which of them it is from.
TEST_F(ShardTest, SeveralFoldersReadAsOne) {
  write_finished(4);
  const fs::path first = folder;
  folder = first.parent_path() / "more";
  write_finished(2);
  const ShardReader reader(std::vector{first, folder}, ShardReader::Verify::always);
  ASSERT_EQ(reader.size(), 6u);
  for (std::size_t i = 0; i < 6; ++i) {
    expect_equal(reader.read(i), sample_of(i < 4 ? i : i - 4));
    EXPECT_EQ(reader.info(i).folder, i < 4 ? 0u : 1u);
  }
  EXPECT_EQ(reader.find(sample_of(1).image), 1u);
}

TEST_F(ShardTest, FoldersOfTwoLayoutsAreRefused) {
  write_finished(2);
  FeatureLayout other = layout;
  other.vv_layers = {2, 4};
  const fs::path more = folder.parent_path() / "more";
  {
    ShardWriter writer(more, other, key, 0);
    FeatureSample sample = sample_of(0);
    sample.vv[2] = sample.vv[4];
    writer.append(sample);
    writer.close();
  }
  finish_features(more, other, key, names(1));
  EXPECT_THAT(error_of([&] {
                const ShardReader reader(std::vector{folder, more});
              }),
              testing::AllOf(HasSubstr("more/manifest.json: layout found"), HasSubstr("expected that of")));
}

// Guards the order: samples stand as the data set lists them, whoever wrote them where.
TEST_F(ShardTest, RanksWriteSideBySideInTheDataSetsOrder) {
  std::vector<pid_t> children;
  for (int rank = 0; rank < 3; ++rank) {
    const pid_t child = fork();
    if (child == 0) {
      write(static_cast<std::size_t>(rank), 20, 3, rank);
      _exit(0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 1;
    waitpid(child, &status, 0);
    ASSERT_EQ(status, 0);
  }
  finish_features(folder, layout, key, names(20));
  const ShardReader reader(folder);
  ASSERT_EQ(reader.size(), 20u);
  for (std::size_t i = 0; i < 20; ++i) expect_equal(reader.read(i), sample_of(i));
}

// Guards resuming: a writer killed at any moment leaves whole shards or nothing, the next one makes the rest, leftovers
// go.
TEST_F(ShardTest, AKilledWriterLeavesWholeShardsOnly) {
  const pid_t child = fork();
  if (child == 0) {
    ShardWriter writer(folder, layout, key, 0, 3);
    for (std::size_t i = 0; i < 5; ++i) writer.append(sample_of(i));
    kill(getpid(), SIGKILL);
  }
  waitpid(child, nullptr, 0);
  EXPECT_EQ(files().size(), 2u);  // one shard, one leftover
  EXPECT_THROW(ShardReader{folder}, Error);
  const auto finished = finished_images(folder, layout, key);
  EXPECT_THAT(finished, testing::ElementsAre(sample_of(0).image, sample_of(1).image, sample_of(2).image));
  EXPECT_THAT(error_of([&] { finish_features(folder, layout, key, names(5)); }),
              testing::AllOf(HasSubstr("2 of 5 images"), HasSubstr(sample_of(3).image)));
  write(3, 5);
  EXPECT_THAT(files(), testing::UnorderedElementsAre("shard-00000.h5", "shard-00001.h5"));
  finish_features(folder, layout, key, names(5));
  const ShardReader reader(folder);
  for (std::size_t i = 0; i < 5; ++i) expect_equal(reader.read(i), sample_of(i));
}

// Guards against features of other weights or settings.
TEST_F(ShardTest, ShardsOfAnotherKeyDoNotCount) {
  write_finished(3);
  const Json other = {{"clip", "def"}};
  EXPECT_TRUE(finished_images(folder, layout, other).empty());
  FeatureLayout wider = layout;
  wider.width = 25;
  EXPECT_TRUE(finished_images(folder, wider, key).empty());
  EXPECT_THAT(error_of([&] { ShardReader(folder, ShardReader::Verify::never, other); }), HasSubstr("key found"));
  EXPECT_TRUE(finished_images(folder.parent_path() / "none", layout, key).empty());
}

// Guards file systems that answer flock with ENOLCK (many NFS and Lustre mounts): shards are written and read there.
TEST_F(ShardTest, NeedsNoFileLocks) {
  const WithoutLocks mount;
  write_finished(3);
  expect_equal(ShardReader(folder).read(2), sample_of(2));
}

// Guards reading: a byte altered in the data of any tensor is found, and the message names file, data set, row and
// image.
TEST_F(ShardTest, AlteredDataIsFound) {
  write_finished(3);
  const std::string bytes = read_file(folder / "shard-00000.h5");
  const FeatureSample second = sample_of(1);
  const auto offset_of = [&](const void* data, std::size_t size) {
    return bytes.find(std::string(static_cast<const char*>(data), size));
  };
  const std::vector<std::pair<std::string, std::size_t>> places = {{"global", offset_of(second.global.data(), 48)},
                                                                   {"qkv/4", offset_of(second.qkv.at(4).data(), 768)},
                                                                   {"vv/4", offset_of(second.vv.at(4).data(), 768)},
                                                                   {"mask", offset_of(second.mask.data(), 1024)}};
  for (const auto& [tensor, offset] : places) {
    ASSERT_NE(offset, std::string::npos) << tensor;
    flip_byte(folder / "shard-00000.h5", offset + 20);
    const ShardReader reader(folder);
    reader.read(0);
    EXPECT_THAT(error_of([&] { reader.read(1); }),
                testing::AllOf(HasSubstr("shard-00000.h5"), HasSubstr(tensor + ": row 1, image 'bottle/test/1.png'"),
                               HasSubstr("CRC-32")));
    ShardReader(folder, ShardReader::Verify::never).read(1);
    flip_byte(folder / "shard-00000.h5", offset + 20);
  }
}

// Guards opening: a shard cut at any length, or with any damage to its tables, is an Error or reads right; never a
// crash.
TEST_F(ShardTest, TruncatedAndDamagedShardsAreErrors) {
  write_finished(3);
  const fs::path shard = folder / "shard-00000.h5";
  const std::string bytes = read_file(shard);
  for (std::size_t size = 0; size < bytes.size(); size += 997) {
    overwrite(shard, std::string_view(bytes).substr(0, size));
    EXPECT_THAT(error_of([&] { ShardReader reader(folder); }), HasSubstr("shard-00000.h5")) << size;
    EXPECT_TRUE(finished_images(folder, layout, key).empty()) << size;
  }
  for (std::size_t offset = 0; offset < bytes.size(); offset += 61) {
    std::string damaged = bytes;
    damaged[offset] = static_cast<char>(damaged[offset] ^ 0x11);
    overwrite(shard, damaged);
    try {
      const ShardReader reader(folder);
      for (std::size_t i = 0; i < 3; ++i) expect_equal(reader.read(i), sample_of(i));
    } catch (const Error&) {
    }
  }
  fs::remove(shard);
  EXPECT_THAT(error_of([&] { ShardReader reader(folder); }), HasSubstr("cannot be opened"));
}

TEST_F(ShardTest, DamagedManifestsAreErrors) {
  write_finished(3);
  const Json good = read_json(folder / "manifest.json");
  const std::vector<std::function<void(Json&)>> damages = {
      [](Json& m) { m["samples"][1]["label"] = 0; },  // an altered label has a wrong digest
      [](Json& m) { m["format"] = 2; },
      [](Json& m) { m.erase("layout"); },
      [](Json& m) { m["shards"][0]["file"] = "../shard-00000.h5"; },
      [](Json& m) { m = Json::array(); },
  };
  for (std::size_t i = 0; i < damages.size(); ++i) {
    Json bad = good;
    damages[i](bad);
    write_json(folder / "manifest.json", bad);
    EXPECT_THAT(error_of([&] { ShardReader reader(folder); }), HasSubstr("manifest.json")) << i;
  }
  write_file_atomically(folder / "manifest.json", std::string_view("{"));
  EXPECT_THROW(ShardReader{folder}, Error);
}

TEST_F(ShardTest, WrongSamplesAreRefusedByName) {
  ShardWriter writer(folder, layout, key, 0, 3);
  const std::vector<std::pair<std::string, std::function<void(FeatureSample&)>>> mistakes = {
      {"global: 44 bytes found, expected 48", [](FeatureSample& s) { s.global.pop_back(); }},
      {"qkv/2 is missing", [](FeatureSample& s) { s.qkv.erase(2); }},
      {"vv/9 found", [](FeatureSample& s) { s.vv[9] = {}; }},
      {"mask: a value above 1", [](FeatureSample& s) { s.mask[5] = 255; }},
      {"without a name", [](FeatureSample& s) { s.image.clear(); }},
      {"zero byte", [](FeatureSample& s) { s.defect = std::string("a\0b", 3); }},
  };
  for (const auto& [message, mistake] : mistakes) {
    FeatureSample sample = sample_of(0);
    mistake(sample);
    EXPECT_THAT(error_of([&] { writer.append(sample); }), HasSubstr(message));
  }
  writer.append(sample_of(0));  // and goes on
  writer.close();
  finish_features(folder, layout, key, names(1));
  EXPECT_THROW(finish_features(folder, layout, key, {sample_of(0).image, sample_of(0).image}), Error);
  expect_equal(ShardReader(folder).read(0), sample_of(0));
}

// Guards the prefetcher: the order asked for, whatever the threads; a bad sample throws at its turn and the next ones
// come.
TEST_F(ShardTest, PrefetcherKeepsTheOrder) {
  write_finished(7);
  const ShardReader reader(folder);
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < 200; ++i) order.push_back(i * i % 7);
  for (const int threads : {1, 3}) {
    Prefetcher prefetcher(reader, order, 4, threads);
    for (const std::size_t index : order) EXPECT_EQ(prefetcher.next().value().image, sample_of(index).image);
    EXPECT_FALSE(prefetcher.next());
  }
  Prefetcher stopped_early(reader, order, 2, 2);
  stopped_early.next();

  Prefetcher with_error(reader, {1, 99, 2}, 2, 2);
  EXPECT_EQ(with_error.next()->image, sample_of(1).image);
  EXPECT_THROW(with_error.next(), Error);
  EXPECT_EQ(with_error.next()->image, sample_of(2).image);
  EXPECT_FALSE(with_error.next());
}

TEST_F(ShardTest, ManyThreadsRead) {
  write_finished(7);
  const ShardReader reader(folder, ShardReader::Verify::always);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (std::size_t i = 0; i < 70; ++i) EXPECT_EQ(reader.read(i % 7).qkv, sample_of(i % 7).qkv);
    });
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace filo
