#include "checkpoint/bundle.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

class Bundle : public testing::Test {
 protected:
  Bundle() {
    std::string name = (fs::temp_directory_path() / "filo_bundle_XXXXXX").string();
    root = mkdtemp(name.data());
    write_file_atomically(root / "params", std::string_view("parameters"));
    write_file_atomically(root / "config", std::string_view("{}"));
    files = {{"params.safetensors", root / "params"}, {"clip/config.json", root / "config"}};
  }
  ~Bundle() override { fs::remove_all(root); }

  fs::path root;
  std::map<std::string, fs::path> files;
};

TEST_F(Bundle, HoldsCopiesAndTheirSums) {
  write_bundle(root / "stage/bundle", files, {{"model", {{"clip", "clip"}}}});
  const fs::path bundle = root / "stage/bundle";
  EXPECT_EQ(read_file(bundle / "params.safetensors"), "parameters");
  EXPECT_EQ(read_file(bundle / "clip/config.json"), "{}");
  EXPECT_EQ(read_json(bundle / "settings.json").at("model").at("clip"), "clip");
  EXPECT_EQ(read_file(bundle / "SHA256SUMS"),
            sha256_hex("{}") + "  clip/config.json\n" + sha256_hex("parameters") + "  params.safetensors\n" +
                sha256_hex(read_file(bundle / "settings.json")) + "  settings.json\n");
}

// Guards against half a bundle: what cannot be copied leaves the one that is there as it was.
TEST_F(Bundle, AMissingFileLeavesTheFormerOne) {
  write_bundle(root / "bundle", files, {{"number", 1}});
  files["clip/vocab.json"] = root / "absent";
  try {
    write_bundle(root / "bundle", files, {{"number", 2}});
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("bundle/clip/vocab.json: cannot be copied from " +
                                                 (root / "absent").string() + ": No such file"));
  }
  EXPECT_EQ(read_json(root / "bundle/settings.json").at("number"), 1);
  EXPECT_EQ(std::distance(fs::directory_iterator(root), fs::directory_iterator()), 3);
}

}  // namespace
}  // namespace filo
