#include "model/clip/tokenizer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/json.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// The published vocabulary, unpacked once.
class TokenizerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = fs::temp_directory_path() / ("filo-tokenizer-" + std::to_string(getpid()));
    fs::create_directories(folder_);
    write_tokenizer_files(FILO_SOURCE_DIR "/.deps/bpe/bpe_simple_vocab_16e6.txt.gz", folder_, 77);
  }
  static void TearDownTestSuite() { fs::remove_all(folder_); }

  static std::string message_of(const auto& action) {
    try {
      action();
    } catch (const UsageError& error) {
      return error.what();
    }
    return "nothing was thrown";
  }

  inline static fs::path folder_;
};

// Guards: the ids of OpenAI's CLIP ("a photo of a cat" is 320 1125 539 320 2368).
TEST_F(TokenizerTest, GivesThePublishedIds) {
  const Tokenizer tokenizer = Tokenizer::load(folder_);
  EXPECT_EQ(tokenizer.start_token(), 49406);
  EXPECT_EQ(tokenizer.end_token(), 49407);
  EXPECT_EQ(tokenizer.vocabulary_size(), 49408);
  EXPECT_EQ(tokenizer.tokenize("a photo of a cat"), (std::vector<int>{320, 1125, 539, 320, 2368}));
  EXPECT_EQ(tokenizer.tokenize("  A  PHOTO\tof a cat\n"), tokenizer.tokenize("a photo of a cat"));
}

// Guards: digits are single tokens, contractions split, a lone accent composes: the pattern's classes.
TEST_F(TokenizerTest, SplitsByUnicodeCategories) {
  const Tokenizer tokenizer = Tokenizer::load(folder_);
  EXPECT_EQ(tokenizer.tokenize("128").size(), 3u);
  EXPECT_EQ(tokenizer.tokenize("it's").size(), 2u);
  EXPECT_EQ(tokenizer.tokenize("cafe\xcc\x81"), tokenizer.tokenize("caf\xc3\xa9"));
  EXPECT_EQ(tokenizer.tokenize("a\xc2\xa0"
                               "b"),
            tokenizer.tokenize("a b"));
  EXPECT_TRUE(tokenizer.tokenize(" \n").empty());
}

// Guards: a prompt that does not fit is an error that names it, never a silent cut; one that just fits is not.
TEST_F(TokenizerTest, PromptLongerThanTheContextIsRefusedByName) {
  const Tokenizer tokenizer = Tokenizer::load(folder_);
  EXPECT_EQ(tokenizer.encode("a photo of a cat", 7).back(), tokenizer.end_token());
  const std::string message = message_of([&] { tokenizer.encode("a photo of a cat", 6); });
  EXPECT_THAT(message, testing::AllOf(HasSubstr("'a photo of a cat'"), HasSubstr("7 tokens"), HasSubstr("6")));
}

// Guards: padding is what the folder declares, else 0; it never touches what is before the end token.
TEST_F(TokenizerTest, PadsAsTheFolderSays) {
  const fs::path config = folder_ / "tokenizer_config.json";
  const std::string declared = read_file(config);
  EXPECT_EQ(Tokenizer::load(folder_).encode("a", 5), (std::vector<std::int64_t>{49406, 320, 49407, 49407, 49407}));
  fs::remove(config);
  EXPECT_EQ(Tokenizer::load(folder_).encode("a", 5), (std::vector<std::int64_t>{49406, 320, 49407, 0, 0}));
  write_file_atomically(config, std::string_view(R"({"pad_token": "no such token"})"));
  EXPECT_THAT(message_of([&] { Tokenizer::load(folder_); }), HasSubstr("pad_token"));
  write_file_atomically(config, declared);
}

// Guards: what a prompt must not hold.
TEST_F(TokenizerTest, RefusesSpecialTokensAndBrokenUtf8) {
  const Tokenizer tokenizer = Tokenizer::load(folder_);
  EXPECT_THAT(message_of([&] { tokenizer.tokenize("a <|endoftext|> b"); }), HasSubstr("special token"));
  EXPECT_THAT(message_of([&] { tokenizer.tokenize("a \xff"); }), HasSubstr("UTF-8"));
  EXPECT_THAT(message_of([&] { tokenizer.tokenize(std::string(20000, 'a')); }), HasSubstr("20000 bytes"));
}

// Guards: untrusted vocabulary files are refused with the file and the entry that is wrong.
TEST_F(TokenizerTest, RefusesVocabulariesThatDoNotHoldTogether) {
  const fs::path other = folder_ / "other";
  fs::create_directories(other);
  const auto message = [&](const char* vocabulary, std::string_view merges) {
    write_file_atomically(other / "vocab.json", std::string_view(vocabulary));
    write_file_atomically(other / "merges.txt", merges);
    return message_of([&] { Tokenizer::load(other); });
  };
  const char* small = R"({"a": 0, "b": 1, "<|startoftext|>": 2, "<|endoftext|>": 3})";
  EXPECT_THAT(message(small, "#version: 0.2\na b\n"), HasSubstr("'ab'"));
  EXPECT_THAT(message(small, "#version: 0.2\nab\n"), HasSubstr("merges.txt:2"));
  EXPECT_THAT(message(R"({"a": -1})", ""), HasSubstr("found -1"));
  EXPECT_THAT(message(R"({"a": 0})", ""), HasSubstr("<|startoftext|>"));
  EXPECT_THAT(message(R"([1])", ""), HasSubstr("vocab.json"));
  EXPECT_THAT(message_of([&] { Tokenizer::load(folder_ / "nowhere"); }), HasSubstr("vocab.json: no such file"));
}

// Guards: a vocabulary file that is cut short or is something else is refused before anything is written.
TEST_F(TokenizerTest, RefusesABrokenVocabularyArchive) {
  const fs::path broken = folder_ / "broken.gz";
  const std::string whole = read_file(FILO_SOURCE_DIR "/.deps/bpe/bpe_simple_vocab_16e6.txt.gz");
  write_file_atomically(broken, std::string_view(whole).substr(0, whole.size() / 2));
  EXPECT_THAT(message_of([&] { write_tokenizer_files(broken, folder_ / "x", 77); }), HasSubstr("broken.gz"));
  write_file_atomically(broken, std::string_view("hello"));
  EXPECT_THAT(message_of([&] { write_tokenizer_files(broken, folder_ / "x", 77); }), HasSubstr("1 lines"));
}

}  // namespace
}  // namespace filo
