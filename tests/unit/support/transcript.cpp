#include "transcript.hpp"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <stdexcept>

#include "base/files.hpp"

namespace filo {
namespace {

const std::string separator = "----";

class Lines {
 public:
  explicit Lines(const std::string& text) : in_(text) { advance(); }

  bool at_end() const { return !line_; }
  const std::string& peek() const { return *line_; }
  int number() const { return number_; }  // of the line that take() gives next

  std::string take() {
    std::string line = *line_;
    advance();
    return line;
  }

 private:
  void advance() {
    std::string line;
    line_.reset();
    ++number_;
    if (std::getline(in_, line)) line_ = line;
  }

  std::istringstream in_;
  std::optional<std::string> line_;
  int number_ = 0;
};

[[noreturn]] void refuse(int line, const std::string& problem) {
  throw std::runtime_error("line " + std::to_string(line) + ": " + problem);
}

std::string read_expected(Lines& lines, int line) {
  std::string expected;
  if (lines.at_end() || lines.peek() != separator) {
    while (!lines.at_end() && !lines.peek().empty()) expected += lines.take() + "\n";
    if (!lines.at_end()) lines.take();
    return expected;
  }
  lines.take();
  for (;;) {
    if (lines.at_end()) refuse(line, "found no end of the output, expected ---- twice");
    std::string one = lines.take();
    if (one == separator && !lines.at_end() && lines.peek() == separator) break;
    expected += one + "\n";
  }
  lines.take();
  if (!lines.at_end() && lines.peek().empty()) lines.take();
  return expected;
}

std::string written(const std::string& output) {
  const bool has_empty_line = output.starts_with("\n") || output.find("\n\n") != std::string::npos;
  if (has_empty_line || output.starts_with(separator + "\n"))
    return separator + "\n" + separator + "\n" + output + separator + "\n" + separator + "\n";
  return separator + "\n" + output;
}

std::string run(const TranscriptBlock& block, const TranscriptCommands& commands) {
  const auto found = commands.find(block.command);
  if (found == commands.end()) {
    std::string known;
    for (const auto& entry : commands) known += (known.empty() ? "" : ", ") + entry.first;
    refuse(block.line, "found the command " + block.command + ", expected one of " + known);
  }
  std::string output;
  try {
    output = found->second(block);
  } catch (const std::exception& error) {
    output = std::string("error: ") + error.what();
  }
  if (!output.empty() && output.back() != '\n') output += "\n";
  return output;
}

}  // namespace

bool TranscriptBlock::has(const std::string& word) const {
  return std::find(words.begin(), words.end(), word) != words.end();
}

std::string TranscriptBlock::value(const std::string& key, const std::string& fallback) const {
  for (const auto& word : words)
    if (word.starts_with(key + "=")) return word.substr(key.size() + 1);
  return fallback;
}

TranscriptRun run_transcript_text(const std::string& text, const TranscriptCommands& commands) {
  TranscriptRun done;
  Lines lines(text);
  while (!lines.at_end()) {
    if (lines.peek().empty() || lines.peek().starts_with("#")) {
      done.rewritten += lines.take() + "\n";
      continue;
    }
    TranscriptBlock block{.line = lines.number(), .command = {}, .words = {}, .input = {}};
    const std::string head = lines.take();
    std::istringstream words(head);
    words >> block.command;
    for (std::string word; words >> word;) block.words.push_back(word);
    while (!lines.at_end() && lines.peek() != separator) block.input += lines.take() + "\n";
    if (lines.at_end()) refuse(block.line, "found no ---- behind the input of " + block.command);
    lines.take();
    const std::string expected = read_expected(lines, block.line);
    const std::string found = run(block, commands);
    if (found != expected) done.mismatches.push_back({block.line, head, expected, found});
    done.rewritten += head + "\n" + block.input + written(found) + "\n";
  }
  while (done.rewritten.ends_with("\n\n")) done.rewritten.pop_back();
  return done;
}

void run_transcript(const std::filesystem::path& file, const TranscriptCommands& commands) {
  TranscriptRun done;
  try {
    done = run_transcript_text(read_file(file), commands);
  } catch (const std::exception& error) {
    ADD_FAILURE() << file.string() << ": " << error.what();
    return;
  }
  if (const char* rewrite = std::getenv("FILO_REWRITE"); rewrite != nullptr && std::string(rewrite) == "1") {
    if (!done.mismatches.empty()) write_file_atomically(file, done.rewritten);
    return;
  }
  for (const auto& mismatch : done.mismatches)
    ADD_FAILURE_AT(file.c_str(), mismatch.line)
        << mismatch.command << "\nexpected:\n"
        << mismatch.expected << "found:\n"
        << mismatch.found << "(FILO_REWRITE=1 puts what was found into the file)";
}

std::vector<std::filesystem::path> transcripts_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".txt") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

std::string transcript_name(const ::testing::TestParamInfo<std::filesystem::path>& info) {
  std::string name = info.param.stem().string();
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

}  // namespace filo
