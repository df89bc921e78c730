#include "transcript.hpp"

#include <gmock/gmock.h>

#include <stdexcept>

namespace filo {
namespace {

using ::testing::HasSubstr;

const TranscriptCommands commands = {
    {"echo", [](const TranscriptBlock& block) { return block.input; }},
    {"twice", [](const TranscriptBlock& block) { return block.input + block.value("between") + "\n" + block.input; }},
    {"fail", [](const TranscriptBlock& block) -> std::string { throw std::runtime_error(block.words.at(0)); }},
};

// Guards: comments, inputs with empty lines, outputs with empty lines, no input, no output, errors.
TEST(Transcript, WhatIsExpectedIsFound) {
  const std::string text =
      "# a comment\n\necho\na\n\nb\n----\n----\na\n\nb\n----\n----\n\ntwice between=x\na\n----\na\nx\na\n\n# another\n"
      "echo\n----\n\nfail here\n----\nerror: here\n";
  const TranscriptRun run = run_transcript_text(text, commands);
  EXPECT_TRUE(run.mismatches.empty());
  EXPECT_EQ(run.rewritten, text);
}

// Guards: a mismatch names its line, and rewriting changes that output alone.
TEST(Transcript, AMismatchNamesItsLineAndIsRewritten) {
  const TranscriptRun run = run_transcript_text("# c\n\necho\na\n----\nb\n\necho\nc\n----\nc\n", commands);
  ASSERT_EQ(run.mismatches.size(), 1u);
  EXPECT_EQ(run.mismatches[0].line, 3);
  EXPECT_EQ(run.mismatches[0].expected, "b\n");
  EXPECT_EQ(run.mismatches[0].found, "a\n");
  EXPECT_EQ(run.rewritten, "# c\n\necho\na\n----\na\n\necho\nc\n----\nc\n");
}

TEST(Transcript, WhatIsNoTranscriptNamesItsLine) {
  const auto problem = [](const std::string& text) -> std::string {
    try {
      run_transcript_text(text, commands);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(problem("\nsay\n----\n"), HasSubstr("line 2: found the command say, expected one of echo, fail, twice"));
  EXPECT_THAT(problem("echo\na\n"), HasSubstr("line 1: found no ---- behind the input"));
  EXPECT_THAT(problem("echo\na\n----\n----\na\n----\n"), HasSubstr("line 1: found no end of the output"));
}

}  // namespace
}  // namespace filo
