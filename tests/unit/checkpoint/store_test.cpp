#include "checkpoint/store.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

class StoreTest : public testing::Test {
 protected:
  StoreTest() {
    std::string name = (fs::temp_directory_path() / "filo_store_XXXXXX").string();
    root = mkdtemp(name.data());
    write_file_atomically(root / "file", std::string_view("weights"));
  }
  ~StoreTest() override { fs::remove_all(root); }

  std::size_t file_count() const {
    std::size_t count = 0;
    for (const auto& entry : fs::recursive_directory_iterator(root / "artifacts")) count += entry.is_regular_file();
    return count;
  }

  fs::path root;
};

TEST_F(StoreTest, EqualFilesAreKeptOnceUnderTheirDigest) {
  ArtifactStore store(root / "artifacts");
  const std::string digest = store.put(root / "file");
  EXPECT_EQ(digest, sha256_hex("weights"));
  write_file_atomically(root / "copy", std::string_view("weights"));
  EXPECT_EQ(store.put(root / "copy"), digest);
  EXPECT_EQ(file_count(), 1u);
  EXPECT_EQ(read_file(*store.get(digest)), "weights");
  EXPECT_TRUE(store.verify(digest));
}

// Guards against a damaged artifact that stays for ever because its name is there.
TEST_F(StoreTest, DamageIsFoundAndMendedByPut) {
  ArtifactStore store(root / "artifacts");
  const std::string digest = store.put(root / "file");
  write_file_atomically(store.path_of(digest), std::string_view("weighty"));
  EXPECT_FALSE(store.verify(digest));
  store.put(root / "file");
  EXPECT_TRUE(store.verify(digest));
}

TEST_F(StoreTest, ManyWritersOfOneFile) {
  ArtifactStore store(root / "artifacts");
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) threads.emplace_back([&] { store.put(root / "file"); });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(file_count(), 1u);
  EXPECT_TRUE(store.verify(sha256_hex("weights")));
}

// Guards the way out of the folder: a digest is hex digits, never a path.
TEST_F(StoreTest, AbsentAndWrongDigests) {
  ArtifactStore store(root / "artifacts");
  EXPECT_EQ(store.get(std::string(64, 'a')), std::nullopt);
  EXPECT_FALSE(store.verify(std::string(64, 'a')));
  EXPECT_THROW(store.get("../../etc/passwd"), Error);
  EXPECT_THROW(store.get(std::string(64, 'A')), Error);
  EXPECT_THROW(store.put(root / "absent"), Error);
}

}  // namespace
}  // namespace filo
