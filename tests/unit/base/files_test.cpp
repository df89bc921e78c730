#include "base/files.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <thread>

#include "base/error.hpp"

namespace filo {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Files : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "filo-files-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  fs::path folder_;
};

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// A process may write no file beyond `bytes`: write(2) fails as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limited{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limited);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int) = nullptr;
};

// Guards that every byte comes back, also none and zeros.
TEST_F(Files, WhatIsWrittenIsRead) {
  std::string bytes(100'003, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31);
  for (const std::string& content : {std::string(), std::string("a\0b", 3), bytes}) {
    write_file_atomically(folder_ / "f", content);
    EXPECT_EQ(read_file(folder_ / "f"), content);
  }
  EXPECT_EQ(entries(), 1u) << "a temporary file was left";
}

// Guards files whose size is not known beforehand (/proc says 0).
TEST_F(Files, ReadsAFileThatSaysItIsEmpty) { EXPECT_THAT(read_file("/proc/self/status"), HasSubstr("Name:")); }

// Guards that a read's error names the path and the system's reason.
TEST_F(Files, ReadErrorsNameThePathAndTheReason) {
  EXPECT_THAT(message_of([&] { read_file(folder_ / "absent"); }), HasSubstr("absent: cannot be opened: No such file"));
  EXPECT_THAT(message_of([&] { read_file(folder_); }), HasSubstr("Is a directory"));
}

// Guards the old content when the disk is full half way through the new one.
TEST_F(Files, AFailedWriteLeavesTheOldFileAndNothingElse) {
  write_file_atomically(folder_ / "f", "old");
  {
    const FileSizeLimit limit(4096);
    EXPECT_THAT(message_of([&] { write_file_atomically(folder_ / "f", std::string(10'000, 'x')); }),
                HasSubstr("write failed: File too large"));
  }
  EXPECT_EQ(read_file(folder_ / "f"), "old");
  EXPECT_EQ(entries(), 1u) << "the half-written temporary file was left";
}

// Guards a missing parent folder: an error, and the folder is not made behind the caller's back.
TEST_F(Files, WritingIntoAMissingFolderIsAnError) {
  EXPECT_THAT(message_of([&] { write_file_atomically(folder_ / "no" / "f", "x"); }),
              HasSubstr("/no/f: cannot be opened"));
  EXPECT_EQ(entries(), 0u);
}

// Guards a folder without write permission. Root may write anywhere, so the attempt is made as somebody else.
TEST_F(Files, AnUnwritableFolderIsAnErrorThatNamesTheReason) {
  write_file_atomically(folder_ / "f", "old");
  fs::permissions(folder_, fs::perms(0555));
  const pid_t pid = fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) {
    if (geteuid() == 0 && setuid(65534) != 0) _exit(3);
    const std::string message = message_of([&] { write_file_atomically(folder_ / "f", "new"); });
    _exit(message.find("Permission denied") != std::string::npos ? 0 : 4);
  }
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  fs::permissions(folder_, fs::perms(0755));
  EXPECT_EQ(read_file(folder_ / "f"), "old");
}

// Guards readers beside a writer: they see one version or the other, never a part, never nothing.
TEST_F(Files, AReaderNeverSeesAHalfWrittenFile) {
  const std::string a(50'000, 'a');
  const std::string b(70'000, 'b');
  write_file_atomically(folder_ / "f", a);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int i = 0; !stop; ++i) write_file_atomically(folder_ / "f", i % 2 == 0 ? b : a);
  });
  for (int i = 0; i < 300; ++i) {
    const std::string seen = read_file(folder_ / "f");
    ASSERT_TRUE(seen == a || seen == b) << "saw " << seen.size() << " bytes";
  }
  stop = true;
  writer.join();
}

// Guards test-and-set: of many that create the same file exactly one is told that it did.
TEST_F(Files, ExactlyOneCreatesAFileExclusively) {
  std::atomic<int> created{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&, i] {
      if (create_file_exclusively(folder_ / "claim", std::to_string(i))) ++created;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(created, 1);
  const std::string winner = read_file(folder_ / "claim");
  EXPECT_FALSE(create_file_exclusively(folder_ / "claim", "late"));
  EXPECT_EQ(read_file(folder_ / "claim"), winner);
  EXPECT_EQ(entries(), 1u);
}

// Guards that a folder is seen whole: not before commit, and with all of it after.
TEST_F(Files, AFolderAppearsWithItsCommit) {
  AtomicFolder folder(folder_ / "parent" / "stage");
  write_file_atomically(folder.path() / "f", "x");
  fs::create_directory(folder.path() / "inner");
  write_file_atomically(folder.path() / "inner" / "g", "y");
  EXPECT_FALSE(fs::exists(folder_ / "parent" / "stage"));
  folder.commit();
  EXPECT_EQ(read_file(folder_ / "parent" / "stage" / "f"), "x");
  EXPECT_EQ(read_file(folder_ / "parent" / "stage" / "inner" / "g"), "y");
}

// Guards the way out by an exception: nothing of the folder stays, and an older one is untouched.
TEST_F(Files, AFolderThatIsNotCommittedIsRemoved) {
  fs::create_directory(folder_ / "stage");
  write_file_atomically(folder_ / "stage" / "f", "old");
  {
    AtomicFolder folder(folder_ / "stage");
    write_file_atomically(folder.path() / "f", "new");
  }
  EXPECT_EQ(read_file(folder_ / "stage" / "f"), "old");
  EXPECT_EQ(entries(), 1u);
}

// Guards replacement: files of the older folder do not stay beside the new ones.
TEST_F(Files, ACommittedFolderReplacesAnOlderOneWhole) {
  fs::create_directory(folder_ / "stage");
  write_file_atomically(folder_ / "stage" / "old", "old");
  AtomicFolder folder(folder_ / "stage");
  write_file_atomically(folder.path() / "new", "new");
  folder.commit();
  EXPECT_FALSE(fs::exists(folder_ / "stage" / "old"));
  EXPECT_EQ(read_file(folder_ / "stage" / "new"), "new");
  EXPECT_EQ(entries(), 1u) << "the folder set aside was left";
}

// Guards readers of a folder that is replaced: at every moment one of the two is there, whole.
TEST_F(Files, AReplacedFolderIsNeverMissing) {
  fs::create_directory(folder_ / "stage");
  write_file_atomically(folder_ / "stage" / "f", "0");
  std::atomic<bool> ended = false;
  std::size_t missing = 0;
  std::thread reader([&] {
    while (!ended) missing += access((folder_ / "stage" / "f").c_str(), R_OK) != 0 ? 1 : 0;
  });
  for (int i = 0; i < 300; ++i) {
    AtomicFolder folder(folder_ / "stage");
    write_file_atomically(folder.path() / "f", std::to_string(i));
    folder.commit();
  }
  ended = true;
  reader.join();
  EXPECT_EQ(missing, 0u);
  EXPECT_EQ(read_file(folder_ / "stage" / "f"), "299");
}

// Guards the descriptor's ownership: moved from is empty, and what goes out of scope is closed.
TEST_F(Files, ADescriptorIsClosedOnceByItsLastOwner) {
  write_file_atomically(folder_ / "f", "x");
  int number;
  {
    FileDescriptor first = open_file(folder_ / "f", O_RDONLY);
    number = first.get();
    FileDescriptor second(std::move(first));
    EXPECT_FALSE(first.valid());  // NOLINT(bugprone-use-after-move,clang-analyzer-cplusplus.Move): what a move leaves
                                  // is what is tested
    EXPECT_EQ(second.get(), number);
    EXPECT_NE(fcntl(number, F_GETFD) & FD_CLOEXEC, 0) << "a child process would inherit it";
  }
  EXPECT_EQ(fcntl(number, F_GETFD), -1);
}

}  // namespace
}  // namespace filo
