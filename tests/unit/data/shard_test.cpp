#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <thread>

#include "base/error.hpp"
#include "base/files.hpp"
#include "data/shards/cache_care.hpp"
#include "data/shards/local_copy.hpp"
#include "data/shards/shard_writer.hpp"
#include "tests/unit/data/shard_fixture.hpp"

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

using testing::HasSubstr;

TEST_F(ShardTest, SamplesComeBackBitForBit) {
  write_finished(7);
  EXPECT_THAT(files(),
              testing::UnorderedElementsAre("shard-00000.h5", "shard-00001.h5", "shard-00002.h5", "manifest.json"));
  const ShardReader reader(folder, ShardReader::Verify::always, key);
  ASSERT_EQ(reader.size(), 7u);
  EXPECT_EQ(reader.layout(), layout);
  EXPECT_EQ(reader.key(), key);
  EXPECT_EQ(reader.bytes_per_sample(), sample_bytes);
  for (std::size_t i = 0; i < 7; ++i) expect_equal(reader.read(i), sample_of(i));
  EXPECT_EQ(reader.find(sample_of(5).image), 5u);
  EXPECT_EQ(reader.find("absent"), std::nullopt);
  EXPECT_THROW(reader.read(7), Error);
  EXPECT_THROW(reader.info(7), Error);

  const FeatureBlock global_only = reader.read(3, {.global = true, .maps = false, .mask = false});
  EXPECT_EQ(std::vector<float>(global_only.global(), global_only.global() + 12), sample_of(3).global);
  EXPECT_TRUE(global_only.map(false, 2) == nullptr && global_only.map(true, 4) == nullptr && !global_only.has_mask());

  const std::vector<std::size_t> several = {6, 0, 3, 0};
  const FeatureBlock block = reader.read(several);
  for (std::size_t i = 0; i < several.size(); ++i) expect_equal(block, i, sample_of(several[i]));
}

TEST_F(ShardTest, EveryTypeOfFeatureComesBackBitForBit) {
  for (const FeatureType type : {FeatureType::bf16, FeatureType::f32, FeatureType::int8}) {
    FeatureLayout other = layout;
    other.type = type;
    const fs::path there = folder.parent_path() / std::to_string(static_cast<int>(type));
    ShardWriter writer(there, other, key, "0");
    for (std::size_t i = 0; i < 3; ++i) writer.append(sample_of(i, type));
    writer.close();
    finish_features(there, other, key, names(3), writer.finished());
    const ShardReader reader(there, ShardReader::Verify::always);
    EXPECT_EQ(reader.layout(), other);
    for (std::size_t i = 0; i < 3; ++i) expect_equal(reader.read(i), sample_of(i, type));
  }
}

// Guards systems whose maps are partly one: it is stored once, and found under each of its names.
TEST_F(ShardTest, MapsThatAreTheSameAreStoredOnce) {
  FeatureLayout other = layout;
  other.same_as = {{"vv/4", "qkv/2"}};
  ShardWriter writer(folder, other, key, "0");
  FeatureSample sample = sample_of(0);
  sample.vv[4] = sample.qkv[2];
  writer.append(sample);
  writer.close();
  finish_features(folder, other, key, names(1), writer.finished());
  const ShardReader reader(folder);
  EXPECT_EQ(reader.layout(), other);
  EXPECT_EQ(reader.bytes_per_sample(), sample_bytes - map_bytes);
  const FeatureBlock block = reader.read(0);
  expect_equal(block, sample);
  EXPECT_EQ(block.map(true, 4), block.map(false, 2));

  Json json = to_json(other);
  for (const Json& bad : {Json({{"vv/4", "vv/4"}}), Json({{"vv/5", "qkv/2"}}), Json({{"vv/4", 2}}), Json("vv/4")}) {
    json["same_as"] = bad;
    EXPECT_THROW(feature_layout_from_json(json, "test"), Error) << bad;
  }
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
    ShardWriter writer(more, other, key, "0");
    FeatureSample sample = sample_of(0);
    sample.vv[2] = sample.vv[4];
    writer.append(sample);
    writer.close();
    finish_features(more, other, key, names(1), writer.finished());
  }
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
  finish(20);
  const ShardReader reader(folder);
  ASSERT_EQ(reader.size(), 20u);
  for (std::size_t i = 0; i < 20; ++i) expect_equal(reader.read(i), sample_of(i));
}

// Guards resuming: a writer killed at any moment leaves whole shards or nothing, the next one makes the rest, leftovers
// go.
TEST_F(ShardTest, AKilledWriterLeavesWholeShardsOnly) {
  const pid_t child = fork();
  if (child == 0) {
    ShardWriter writer(folder, layout, key, "0", 3 * sample_bytes);
    for (std::size_t i = 0; i < 5; ++i) writer.append(sample_of(i));
    kill(getpid(), SIGKILL);
  }
  waitpid(child, nullptr, 0);
  EXPECT_EQ(files().size(), 2u);  // one shard, one leftover
  EXPECT_THROW(ShardReader{folder}, Error);
  EXPECT_EQ(finished_images(), names(3));
  EXPECT_THAT(error_of([&] { finish(5); }), testing::AllOf(HasSubstr("2 of 5 images"), HasSubstr(sample_of(3).image)));
  remove_unfinished_shards(folder);
  write(3, 5);
  EXPECT_THAT(files(), testing::UnorderedElementsAre("shard-00000.h5", "shard-00001.h5"));
  finish(5);
  const ShardReader reader(folder);
  for (std::size_t i = 0; i < 5; ++i) expect_equal(reader.read(i), sample_of(i));
}

// Guards against features of other weights or settings.
TEST_F(ShardTest, ShardsOfAnotherKeyDoNotCount) {
  write_finished(3);
  const Json other = {{"clip", "def"}};
  EXPECT_TRUE(sound_shards(other).empty());
  FeatureLayout wider = layout;
  wider.width = 25;
  EXPECT_FALSE(check_shard(folder / "shard-00000.h5", wider, key));
  EXPECT_THAT(error_of([&] { ShardReader(folder, ShardReader::Verify::never, other); }), HasSubstr("key found"));
  EXPECT_TRUE(shard_names(folder.parent_path() / "none").empty());
}

// Guards a second builder that takes over: the first one comes to an end and says why, and changes nothing.
TEST_F(ShardTest, AWriterWhoseFileIsGoneEnds) {
  ShardWriter first(folder, layout, key, "1-1-0", 3 * sample_bytes);
  first.append(sample_of(0));
  remove_unfinished_shards(folder);
  EXPECT_THAT(error_of([&] { first.close(); }), HasSubstr("another builder of this cache has taken over"));
  write(0, 3);
  finish(3);
  EXPECT_EQ(files().size(), 2u);
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
  const std::uint64_t mask_at = read_json(folder / "manifest.json")["samples"][1]["offsets"].back();
  const std::vector<std::pair<std::string, std::size_t>> places = {
      {"global", offset_of(second.global.data(), 48)},
      {"qkv/4", offset_of(second.qkv.at(4).values.data(), 768)},
      {"vv/4", offset_of(second.vv.at(4).values.data(), 768)},
      {"mask", mask_at}};
  for (const auto& [tensor, offset] : places) {
    ASSERT_NE(offset, std::string::npos) << tensor;
    flip_byte(folder / "shard-00000.h5", offset + 20);
    const ShardReader reader(folder);
    reader.read(0);
    EXPECT_THAT(error_of([&] { reader.read(1); }),
                testing::AllOf(HasSubstr("shard-00000.h5"), HasSubstr(tensor + ": row 1, image 'bottle/test/1.png'"),
                               HasSubstr("CRC-32")));
    EXPECT_THROW(reader.read(1), ShardDamage);
    const auto problems = verify_features(folder);
    ASSERT_EQ(problems.size(), 1u);
    EXPECT_EQ(problems[0].file, "shard-00000.h5");
    EXPECT_EQ(problems[0].images, 3u);
    EXPECT_THAT(problems[0].reason, testing::StartsWith(tensor + ": row 1, image 'bottle/test/1.png': CRC-32"));
    ShardReader(folder, ShardReader::Verify::never).read(1);
    flip_byte(folder / "shard-00000.h5", offset + 20);
  }
}

// Guards numbers: a shard cut at any length, or with any byte altered, is told of by verify; a reader gives the right
// numbers or an Error; never a crash.
TEST_F(ShardTest, TruncatedAndDamagedShardsAreErrors) {
  write_finished(3);
  const fs::path shard = folder / "shard-00000.h5";
  const std::string bytes = read_file(shard);
  EXPECT_TRUE(verify_features(folder).empty());
  for (std::size_t size = 0; size < bytes.size(); size += 997) {
    overwrite(shard, std::string_view(bytes).substr(0, size));
    EXPECT_THAT(error_of([&] { ShardReader reader(folder); }), HasSubstr("shard-00000.h5")) << size;
    EXPECT_THROW(check_shard(shard, layout, key), ShardDamage) << size;
    EXPECT_EQ(verify_features(folder).size(), 1u) << size;
  }
  for (std::size_t offset = 0; offset < bytes.size(); offset += 61) {
    std::string damaged = bytes;
    damaged[offset] = static_cast<char>(damaged[offset] ^ 0x11);
    overwrite(shard, damaged);
    EXPECT_EQ(verify_features(folder).size(), 1u) << offset;
    try {
      const ShardReader reader(folder);
      for (std::size_t i = 0; i < 3; ++i) expect_equal(reader.read(i), sample_of(i));
    } catch (const Error&) {
    }
  }
  fs::remove(shard);
  EXPECT_THAT(error_of([&] { ShardReader reader(folder); }),
              testing::AllOf(HasSubstr("cannot be opened"), HasSubstr("filo features repair features")));
  EXPECT_THAT(verify_features(folder).at(0).reason, HasSubstr("cannot be opened"));
}

// Guards copies on a node's own disk: checked as they are made, whole or not used.
TEST_F(ShardTest, LocalCopiesAreWhole) {
  write_finished(7);
  const fs::path disk = folder.parent_path() / "disk", copy = local_copy_folder(folder, disk);
  EXPECT_EQ(copy.parent_path(), disk / "filo-features");
  EXPECT_TRUE(make_local_copy(folder, disk));
  EXPECT_TRUE(verify_features(copy).empty());
  overwrite(copy / "shard-00001.h5", "cut short");  // as a full disk or a crash leaves it
  fs::remove(copy / "shard-00002.h5");
  EXPECT_TRUE(make_local_copy(folder, disk));
  EXPECT_TRUE(verify_features(copy).empty());
  const ShardReader reader(copy);
  for (std::size_t i = 0; i < 7; ++i) expect_equal(reader.read(i), sample_of(i));

  fs::remove(copy / "shard-00000.h5");
  flip_byte(folder / "shard-00000.h5", 5000);
  EXPECT_THROW(make_local_copy(folder, disk), ShardDamage);
  EXPECT_FALSE(fs::exists(copy / "shard-00000.h5"));
  for (const auto& entry : fs::directory_iterator(copy)) EXPECT_NE(entry.path().extension(), ".tmp");
}

// Guards looking at a cache while it is built: what is finished is read, and stays as it is.
TEST_F(ShardTest, AReaderGoesOnWhileABuilderRuns) {
  write_finished(7);
  const ShardReader reader(folder);
  const std::jthread builder([&] { write(7, 40); });
  for (int round = 0; round < 20; ++round) {
    const ShardReader another(folder);
    for (std::size_t i = 0; i < 7; ++i) {
      expect_equal(reader.read(i), sample_of(i));
      expect_equal(another.read(i), sample_of(i));
    }
  }
}

// Guards mending: a shard that was set aside is made anew under another number, and the cache is whole again.
TEST_F(ShardTest, AShardThatWasSetAsideIsMadeAnew) {
  write_finished(7);
  flip_byte(folder / "shard-00001.h5", fs::file_size(folder / "shard-00001.h5") / 2);
  ASSERT_EQ(verify_features(folder).size(), 1u);
  set_aside(folder / "shard-00001.h5");
  set_aside(folder / "shard-00001.h5");  // another process was first
  EXPECT_THROW(ShardReader{folder}, ShardDamage);
  EXPECT_EQ(finished_images().size(), 4u);
  write(3, 6);
  finish(7);
  EXPECT_THAT(files(), testing::UnorderedElementsAre("shard-00000.h5", "shard-00001.h5.damaged", "shard-00002.h5",
                                                     "shard-00003.h5", "manifest.json"));
  EXPECT_TRUE(verify_features(folder).empty());
  const ShardReader reader(folder);
  for (std::size_t i = 0; i < 7; ++i) expect_equal(reader.read(i), sample_of(i));
}

TEST_F(ShardTest, DamagedManifestsAreErrors) {
  write_finished(3);
  const Json good = read_json(folder / "manifest.json");
  const std::vector<std::function<void(Json&)>> damages = {
      [](Json& m) { m["samples"][1]["label"] = 0; },  // an altered label has a wrong digest
      [](Json& m) { m["format"] = 3; },
      [](Json& m) { m["samples"][0]["offsets"][0] = std::uint64_t{1} << 60; },
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
  const std::string bytes = good.dump();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x01);
    write_file_atomically(folder / "manifest.json", std::string_view(damaged));
    EXPECT_THROW(ShardReader{folder}, Error) << i;
  }
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    write_file_atomically(folder / "manifest.json", std::string_view(bytes).substr(0, size));
    EXPECT_THROW(ShardReader{folder}, Error) << size;
  }
}

TEST_F(ShardTest, WrongSamplesAreRefusedByName) {
  ShardWriter writer(folder, layout, key, "0", 3 * sample_bytes);
  const std::vector<std::pair<std::string, std::function<void(FeatureSample&)>>> mistakes = {
      {"global: 44 bytes found, expected 48", [](FeatureSample& s) { s.global.pop_back(); }},
      {"qkv/2 is missing", [](FeatureSample& s) { s.qkv.erase(2); }},
      {"vv/9 found", [](FeatureSample& s) { s.vv[9] = {}; }},
      {"vv/4: 767 bytes found", [](FeatureSample& s) { s.vv[4].values.pop_back(); }},
      {"mask: 1088 values found, expected 1089", [](FeatureSample& s) { s.mask.pop_back(); }},
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
  finish(1);
  EXPECT_THROW(finish_features(folder, layout, key, {sample_of(0).image, sample_of(0).image}, sound_shards()), Error);
  expect_equal(ShardReader(folder).read(0), sample_of(0));
}

}  // namespace
}  // namespace filo
