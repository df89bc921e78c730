// CLIP's byte-pair-encoding tokenizer: the same tokens as transformers' CLIPTokenizerFast.
//
// Text is brought to Unicode NFC, white space runs become one blank, letters lower case; it is split by
//   's|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+
// (ICU's character categories), each piece's UTF-8 bytes become characters of CLIP's byte alphabet, and pairs merge by
// rank. Unlike OpenAI's tokenizer nothing guesses at broken encodings (ftfy) or unescapes HTML.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace filo {

// Immutable, cheap to copy. Thread-safe (the cache of words is locked).
class Tokenizer {
 public:
  // Reads vocab.json and merges.txt of a Hugging Face folder, and the padding token of tokenizer_config.json where
  // there is one. Throws UsageError naming file and key: missing file, a merge or special token that is not in the
  // vocabulary, ids out of range.
  static Tokenizer load(const std::filesystem::path& folder);

  // Token ids without the start and end tokens. Throws UsageError when `text` is not UTF-8 or holds a special token.
  std::vector<int> tokenize(std::string_view text) const;

  // start_token ... end_token, padded to `context_length` with pad_token. Throws UsageError naming the prompt, its
  // length and the context when it does not fit (never cut).
  std::vector<std::int64_t> encode(std::string_view text, int context_length) const;

  int vocabulary_size() const;  // largest id + 1
  int start_token() const;      // <|startoftext|>
  int end_token() const;        // <|endoftext|>, the largest id: features are read at its first occurrence
  // What follows the end token: the folder's own `pad_token` (OpenAI's Hugging Face folders say <|endoftext|>), or 0 as
  // in OpenAI's and OpenCLIP's code where the folder says nothing. The encoder is causal, so no feature depends on it.
  int pad_token() const;

 private:
  struct Tables;
  explicit Tokenizer(std::shared_ptr<Tables> tables) : tables_(std::move(tables)) {}
  std::shared_ptr<Tables> tables_;
};

// Writes vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json, as transformers reads them, from
// bpe_simple_vocab_16e6.txt.gz (OpenAI's and OpenCLIP's vocabulary). Throws UsageError when that file is not what it
// should be.
void write_tokenizer_files(const std::filesystem::path& vocabulary_gz, const std::filesystem::path& folder,
                           int context_length);

}  // namespace filo
