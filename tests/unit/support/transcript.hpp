// Tables of cases as files: a transcript holds commands, their input and the output that is expected of them.
//
//     # a comment
//     COMMAND WORD KEY=VALUE
//     input, any number of lines
//     ----
//     the expected output, up to an empty line
//
// Where the output itself has empty lines, "----" stands twice before it and twice behind it. With FILO_REWRITE=1 in
// the environment a run puts what it found in place of what was expected (and passes): read the difference before you
// commit it.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace filo {

struct TranscriptBlock {
  int line = 0;  // of the command, from 1
  std::string command;
  std::vector<std::string> words;  // the rest of the command's line
  std::string input;               // whole lines

  bool has(const std::string& word) const;
  // The VALUE of the word KEY=VALUE, or `fallback`.
  std::string value(const std::string& key, const std::string& fallback = "") const;
};

// A command's output for a block. What it throws becomes the output "error: WHAT".
using TranscriptCommands = std::map<std::string, std::function<std::string(const TranscriptBlock&)>>;

struct TranscriptMismatch {
  int line = 0;  // of the command
  std::string command, expected, found;
};

struct TranscriptRun {
  std::vector<TranscriptMismatch> mismatches;
  std::string rewritten;  // the text with what was found in place of what was expected
};

// Throws std::runtime_error naming the line where `text` is no transcript or names a command that there is not.
TranscriptRun run_transcript_text(const std::string& text, const TranscriptCommands& commands);

// A test's body: runs the file and fails the test once for each block whose output is another, at the block's line.
void run_transcript(const std::filesystem::path& file, const TranscriptCommands& commands);

// FOLDER/*.txt in order, for INSTANTIATE_TEST_SUITE_P(Cases, Suite, ::testing::ValuesIn(transcripts_in(...)),
// transcript_name).
std::vector<std::filesystem::path> transcripts_in(const std::filesystem::path& folder);
std::string transcript_name(
    const ::testing::TestParamInfo<std::filesystem::path>& info);  // "bad_folds" of bad-folds.txt

}  // namespace filo
