#include "base/hash.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "base/error.hpp"
#include "base/files.hpp"

namespace filo {
namespace {

// Guards the digest against FIPS 180-2's own examples.
TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Guards that pieces hash like the whole, wherever they are cut.
TEST(Sha256, PiecesHashLikeTheWhole) {
  const std::string text(1000, 'x');
  for (const std::size_t cut : {0u, 1u, 63u, 64u, 65u, 999u, 1000u}) {
    Sha256 hash;
    hash.update(text.substr(0, cut));
    hash.update(text.substr(cut));
    EXPECT_EQ(hash.hex(), sha256_hex(text)) << "cut at " << cut;
  }
}

// Guards the streamed form at a size beyond its buffer, and its error.
TEST(Sha256, AFileHashesLikeItsBytes) {
  std::string pattern = (std::filesystem::temp_directory_path() / "filo-hash-XXXXXX").string();
  ASSERT_NE(mkdtemp(pattern.data()), nullptr);
  const std::filesystem::path folder = pattern;
  const std::string bytes((std::size_t{1} << 20) + 17, 'b');
  write_file_atomically(folder / "f", bytes);
  EXPECT_EQ(sha256_hex_of_file(folder / "f"), sha256_hex(bytes));
  EXPECT_THROW(sha256_hex_of_file(folder / "absent"), Error);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace filo
