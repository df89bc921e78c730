#include "model/clip/tokenizer.hpp"

#include <unicode/locid.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/ustring.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <sstream>
#include <unordered_map>
#include <utility>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/json.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view start_text = "<|startoftext|>";
constexpr std::string_view end_text = "<|endoftext|>";
constexpr std::string_view word_end = "</w>";
constexpr std::size_t maximum_prompt_bytes = 16384;  // merging is quadratic in a word's length
constexpr std::size_t maximum_cached_words = 1 << 16;
constexpr std::size_t maximum_vocabulary_text_bytes = 64 << 20;
constexpr std::size_t published_merges = 49152 - 256 - 2;  // the file lists more; CLIP uses the first ones

std::string utf8(char32_t code_point) {
  std::string text;
  icu::UnicodeString(static_cast<UChar32>(code_point)).toUTF8String(text);
  return text;
}

// CLIP's byte alphabet: printable Latin-1 bytes stand for themselves, the others for U+0100 and up, in the order of the
// vocabulary.
struct ByteAlphabet {
  std::array<std::string, 256> symbol;
  std::array<int, 256> order;  // order[i]: the byte that the vocabulary's i-th entry stands for
};

ByteAlphabet make_byte_alphabet() {
  const auto printable = [](int byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  };
  ByteAlphabet alphabet;
  std::size_t position = 0;
  for (int byte = 0; byte < 256; ++byte) {
    if (!printable(byte)) continue;
    alphabet.order[position++] = byte;
    alphabet.symbol[static_cast<std::size_t>(byte)] = utf8(static_cast<char32_t>(byte));
  }
  char32_t next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    if (printable(byte)) continue;
    alphabet.order[position++] = byte;
    alphabet.symbol[static_cast<std::size_t>(byte)] = utf8(next++);
  }
  return alphabet;
}

enum class Kind { space, letter, number, other };

Kind kind_of(UChar32 code_point) {
  if (u_isUWhiteSpace(code_point)) return Kind::space;
  const std::uint32_t category = U_GET_GC_MASK(code_point);
  if (category & U_GC_L_MASK) return Kind::letter;
  if (category & U_GC_N_MASK) return Kind::number;
  return Kind::other;
}

std::string quoted(std::string_view prompt) {
  constexpr std::size_t shown = 120;
  return "'" + std::string(prompt.substr(0, shown)) + (prompt.size() > shown ? "...'" : "'");
}

// NFC, lower case letter by letter (no rule of a language, no final sigma: as the reference's Rust code).
std::vector<UChar32> normalized(std::string_view text) {
  const std::string where = "tokenizer: prompt " + quoted(text);
  UErrorCode status = U_ZERO_ERROR;
  std::int32_t length = 0;
  std::vector<UChar> units(text.size() + 1);
  u_strFromUTF8(units.data(), static_cast<std::int32_t>(units.size()), &length, text.data(),
                static_cast<std::int32_t>(text.size()), &status);
  if (U_FAILURE(status))
    throw UsageError("tokenizer", "a prompt of " + std::to_string(text.size()) + " bytes is not valid UTF-8");
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(status);
  if (U_FAILURE(status)) throw Error(where, std::string("ICU has no NFC data: ") + u_errorName(status));
  const icu::UnicodeString composed = nfc->normalize(icu::UnicodeString(units.data(), length), status);
  if (U_FAILURE(status)) throw Error(where, std::string("cannot be normalised: ") + u_errorName(status));

  std::vector<UChar32> code_points;
  for (std::int32_t i = 0; i < composed.length(); i = composed.moveIndex32(i, 1)) {
    icu::UnicodeString letter(composed.char32At(i));
    letter.toLower(icu::Locale::getRoot());
    for (std::int32_t j = 0; j < letter.length(); j = letter.moveIndex32(j, 1))
      code_points.push_back(letter.char32At(j));
  }
  return code_points;
}

// Length of 's 't 're 've 'm 'll 'd at `position`, or 0.
std::size_t contraction_length(const std::vector<UChar32>& text, std::size_t position) {
  if (text[position] != '\'' || position + 1 >= text.size()) return 0;
  const UChar32 first = text[position + 1];
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (position + 2 >= text.size()) return 0;
  const UChar32 second = text[position + 2];
  return ((first == 'r' || first == 'v') && second == 'e') || (first == 'l' && second == 'l') ? 3 : 0;
}

std::vector<std::string> split_words(const std::vector<UChar32>& text) {
  std::vector<std::string> words;
  std::size_t begin = 0;
  while (begin < text.size()) {
    const Kind kind = kind_of(text[begin]);
    std::size_t end = begin + 1;
    if (kind == Kind::space) {
      begin = end;
      continue;
    }
    if (const std::size_t length = contraction_length(text, begin); length > 0) {
      end = begin + length;
    } else if (kind != Kind::number) {
      while (end < text.size() && kind_of(text[end]) == kind) ++end;
    }
    std::string word;
    for (std::size_t i = begin; i < end; ++i) word += utf8(static_cast<char32_t>(text[i]));
    words.push_back(std::move(word));
    begin = end;
  }
  return words;
}

std::uint64_t pair_key(int left, int right) {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) | static_cast<std::uint32_t>(right);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    lines.push_back(std::move(line));
  }
  return lines;
}

std::pair<std::string, std::string> parse_merge(const std::string& line, const std::string& where) {
  const std::size_t blank = line.find(' ');
  if (blank == std::string::npos || blank == 0 || blank + 1 == line.size() ||
      line.find(' ', blank + 1) != std::string::npos) {
    throw UsageError(where, "found '" + line + "', expected two tokens with a blank between them");
  }
  return {line.substr(0, blank), line.substr(blank + 1)};
}

struct VocabularyFiles {
  Json vocabulary;  // token -> id
  std::vector<std::pair<std::string, std::string>> merges;
  std::string vocabulary_where, merges_where;
};

VocabularyFiles read_tokenizer_json(const fs::path& path) {
  VocabularyFiles files;
  files.vocabulary_where = "tokenizer: " + path.string() + ": model.vocab";
  files.merges_where = "tokenizer: " + path.string() + ": model.merges";
  const Json json = read_json(path);
  const Json model = json.is_object() ? json.value("model", Json()) : Json();
  if (!model.is_object() || !model.contains("vocab") || !model.contains("merges") || !model["merges"].is_array()) {
    throw UsageError("tokenizer: " + path.string(), "has no model.vocab and model.merges");
  }
  files.vocabulary = model["vocab"];
  for (const Json& merge : model["merges"]) {  // "a b", or ["a", "b"] as newer versions write
    if (merge.is_string()) {
      files.merges.push_back(parse_merge(merge.get<std::string>(), files.merges_where));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      files.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
    } else {
      throw UsageError(files.merges_where, "found " + merge.dump() + ", expected a pair of tokens");
    }
  }
  return files;
}

VocabularyFiles read_vocabulary_files(const fs::path& folder) {
  const fs::path vocabulary_path = folder / "vocab.json";
  const fs::path merges_path = folder / "merges.txt";
  if (!fs::exists(vocabulary_path) && fs::exists(folder / "tokenizer.json"))
    return read_tokenizer_json(folder / "tokenizer.json");
  for (const fs::path& path : {vocabulary_path, merges_path}) {
    if (!fs::exists(path))
      throw UsageError("tokenizer: " + path.string(), "no such file: expected a Hugging Face CLIP folder");
  }
  VocabularyFiles files;
  files.vocabulary_where = "tokenizer: " + vocabulary_path.string();
  files.merges_where = "tokenizer: " + merges_path.string();
  files.vocabulary = read_json(vocabulary_path);
  const std::vector<std::string> lines = lines_of(read_file(merges_path));
  for (std::size_t i = 0; i < lines.size() && files.merges.size() < published_merges; ++i) {
    if (lines[i].empty() || (i == 0 && lines[i].starts_with("#version"))) continue;
    files.merges.push_back(parse_merge(lines[i], files.merges_where + ":" + std::to_string(i + 1)));
  }
  return files;
}

// The content of `pad_token` in tokenizer_config.json: a string, or an object with `content`.
std::optional<std::string> declared_pad_token(const fs::path& folder) {
  const fs::path path = folder / "tokenizer_config.json";
  if (!fs::exists(path)) return std::nullopt;
  const Json json = read_json(path);
  if (!json.is_object() || !json.contains("pad_token") || json["pad_token"].is_null()) return std::nullopt;
  const Json& pad = json["pad_token"];
  if (pad.is_string()) return pad.get<std::string>();
  if (pad.is_object() && pad.contains("content") && pad["content"].is_string())
    return pad["content"].get<std::string>();
  throw UsageError("tokenizer: " + path.string() + ": pad_token", "found " + pad.dump() + ", expected a token");
}

}  // namespace

struct Tokenizer::Tables {
  struct Merge {
    int rank, merged;
  };
  std::unordered_map<std::string, int> ids;
  std::unordered_map<std::uint64_t, Merge> merges;
  std::array<int, 256> byte_id, last_byte_id;  // -1: not in the vocabulary
  int largest_id = 0, start = 0, end = 0, pad = 0;

  std::mutex mutex;
  std::unordered_map<std::string, std::vector<int>> cache;

  int id_of(const std::string& token, const std::string& where) const {
    const auto found = ids.find(token);
    if (found == ids.end()) throw UsageError(where, "token '" + token + "' is not in the vocabulary");
    return found->second;
  }

  std::vector<int> merge_word(const std::string& word, std::string_view prompt) const {
    std::vector<int> symbols;
    for (std::size_t i = 0; i < word.size(); ++i) {
      const auto byte = static_cast<unsigned char>(word[i]);
      const int id = i + 1 == word.size() ? last_byte_id[byte] : byte_id[byte];
      if (id < 0)
        throw UsageError("tokenizer: prompt " + quoted(prompt),
                         "'" + word + "' has a byte that is not in the vocabulary");
      symbols.push_back(id);
    }
    while (symbols.size() > 1) {
      int best_rank = std::numeric_limits<int>::max(), merged = 0, left = 0, right = 0;
      for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
        const auto found = merges.find(pair_key(symbols[i], symbols[i + 1]));
        if (found == merges.end() || found->second.rank >= best_rank) continue;
        best_rank = found->second.rank;
        merged = found->second.merged;
        left = symbols[i];
        right = symbols[i + 1];
      }
      if (best_rank == std::numeric_limits<int>::max()) break;
      std::size_t kept = 0;
      for (std::size_t i = 0; i < symbols.size(); ++i) {
        const bool pair = i + 1 < symbols.size() && symbols[i] == left && symbols[i + 1] == right;
        symbols[kept++] = pair ? merged : symbols[i];
        if (pair) ++i;
      }
      symbols.resize(kept);
    }
    return symbols;
  }
};

Tokenizer Tokenizer::load(const fs::path& folder) {
  const VocabularyFiles files = read_vocabulary_files(folder);
  auto tables = std::make_shared<Tables>();
  if (!files.vocabulary.is_object()) throw UsageError(files.vocabulary_where, "expected an object: token -> id");
  constexpr std::int64_t id_limit = 1 << 24;
  for (const auto& [token, id] : files.vocabulary.items()) {
    if (!id.is_number_integer() || id.get<std::int64_t>() < 0 || id.get<std::int64_t>() >= id_limit) {
      throw UsageError(files.vocabulary_where + ": " + token,
                       "found " + id.dump() + ", expected an id from 0 to 2^24 - 1");
    }
    tables->ids[token] = id.get<int>();
    tables->largest_id = std::max(tables->largest_id, id.get<int>());
  }
  for (std::size_t rank = 0; rank < files.merges.size(); ++rank) {
    const auto& [left, right] = files.merges[rank];
    const std::uint64_t key =
        pair_key(tables->id_of(left, files.merges_where), tables->id_of(right, files.merges_where));
    tables->merges[key] = {static_cast<int>(rank), tables->id_of(left + right, files.merges_where)};
  }
  const ByteAlphabet alphabet = make_byte_alphabet();
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const auto inner = tables->ids.find(alphabet.symbol[byte]);
    const auto last = tables->ids.find(alphabet.symbol[byte] + std::string(word_end));
    tables->byte_id[byte] = inner == tables->ids.end() ? -1 : inner->second;
    tables->last_byte_id[byte] = last == tables->ids.end() ? -1 : last->second;
  }
  tables->start = tables->id_of(std::string(start_text), files.vocabulary_where);
  tables->end = tables->id_of(std::string(end_text), files.vocabulary_where);
  if (const auto pad = declared_pad_token(folder)) {
    tables->pad = tables->id_of(*pad, "tokenizer: " + (folder / "tokenizer_config.json").string() + ": pad_token");
  }
  return Tokenizer(std::move(tables));
}

std::vector<int> Tokenizer::tokenize(std::string_view text) const {
  if (text.size() > maximum_prompt_bytes) {
    throw UsageError(
        "tokenizer: prompt " + quoted(text),
        "has " + std::to_string(text.size()) + " bytes, expected at most " + std::to_string(maximum_prompt_bytes));
  }
  for (const std::string_view special : {start_text, end_text}) {
    if (text.find(special) != std::string_view::npos) {
      throw UsageError("tokenizer: prompt " + quoted(text), "holds the special token " + std::string(special));
    }
  }
  std::vector<int> tokens;
  for (const std::string& word : split_words(normalized(text))) {
    const std::lock_guard lock(tables_->mutex);
    auto found = tables_->cache.find(word);
    if (found == tables_->cache.end()) {
      if (tables_->cache.size() >= maximum_cached_words) tables_->cache.clear();
      found = tables_->cache.emplace(word, tables_->merge_word(word, text)).first;
    }
    tokens.insert(tokens.end(), found->second.begin(), found->second.end());
  }
  return tokens;
}

std::vector<std::int64_t> Tokenizer::encode(std::string_view text, int context_length) const {
  const std::vector<int> words = tokenize(text);
  if (words.size() + 2 > static_cast<std::size_t>(context_length)) {
    throw UsageError("tokenizer: prompt " + quoted(text), "has " + std::to_string(words.size() + 2) +
                                                              " tokens with start and end, but the context is " +
                                                              std::to_string(context_length) + ": shorten it");
  }
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(context_length), pad_token());
  tokens[0] = start_token();
  std::ranges::copy(words, tokens.begin() + 1);
  tokens[words.size() + 1] = end_token();
  return tokens;
}

int Tokenizer::vocabulary_size() const { return tables_->largest_id + 1; }
int Tokenizer::start_token() const { return tables_->start; }
int Tokenizer::end_token() const { return tables_->end; }
int Tokenizer::pad_token() const { return tables_->pad; }

namespace {

std::string read_gzip(const fs::path& path) {
  const std::string where = "tokenizer: " + path.string();
  if (!fs::is_regular_file(path))
    throw UsageError(where,
                     "no such file, expected CLIP's vocabulary bpe_simple_vocab_16e6.txt.gz: tools/setup fetches it to "
                     ".deps/bpe of the checkout, --vocabulary names another place");
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (!file) throw UsageError(where, "cannot be opened");
  std::string text;
  std::array<char, 1 << 16> buffer;
  for (;;) {
    const int got = gzread(file.get(), buffer.data(), static_cast<unsigned>(buffer.size()));
    if (got < 0) throw UsageError(where, "not a valid gzip file");
    text.append(buffer.data(), static_cast<std::size_t>(got));
    if (text.size() > maximum_vocabulary_text_bytes)
      throw UsageError(where, "unpacks to more than 64 MiB: not the vocabulary");
    if (got == 0) break;
  }
  int error = Z_OK;
  gzerror(file.get(), &error);
  if (error != Z_OK) throw UsageError(where, "not a valid gzip file, or cut short");
  return text;
}

}  // namespace

void write_tokenizer_files(const fs::path& vocabulary_gz, const fs::path& folder, int context_length) {
  const std::string where = "tokenizer: " + vocabulary_gz.string();
  const std::vector<std::string> lines = lines_of(read_gzip(vocabulary_gz));
  if (lines.size() < published_merges + 1) {
    throw UsageError(where, "found " + std::to_string(lines.size()) + " lines, expected a header and " +
                                std::to_string(published_merges) + " merges");
  }
  const ByteAlphabet alphabet = make_byte_alphabet();
  std::vector<std::string> tokens;
  for (const int byte : alphabet.order) tokens.push_back(alphabet.symbol[static_cast<std::size_t>(byte)]);
  for (std::size_t i = 0; i < 256; ++i) tokens.push_back(tokens[i] + std::string(word_end));
  std::string merges = "#version: 0.2\n";
  for (std::size_t i = 1; i <= published_merges; ++i) {
    const auto [left, right] = parse_merge(lines[i], where + ":" + std::to_string(i + 1));
    tokens.push_back(left + right);
    merges += lines[i] + "\n";
  }
  tokens.emplace_back(start_text);
  tokens.emplace_back(end_text);
  std::string text = "{";  // ordered by id, as transformers writes it; an ordered_json of 49,408 keys is quadratic
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    text += (id ? "," : "") + Json(tokens[id]).dump() + ":" + std::to_string(id);
  }
  write_file_atomically(folder / "vocab.json", text + "}\n");
  write_file_atomically(folder / "merges.txt", merges);
  const Json special = {
      {"bos_token", start_text}, {"eos_token", end_text}, {"unk_token", end_text}, {"pad_token", end_text}};
  write_json(folder / "special_tokens_map.json", special);
  Json config = special;
  config.update({{"tokenizer_class", "CLIPTokenizer"},
                 {"model_max_length", context_length},
                 {"do_lower_case", true},
                 {"errors", "replace"},
                 {"add_prefix_space", false}});
  write_json(folder / "tokenizer_config.json", config);
}

}  // namespace filo
