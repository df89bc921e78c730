// What tests of every room share: a folder that lives as long as the test, and the message of what was thrown.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/error.hpp"
#include "base/files.hpp"

namespace filo {

class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "filo-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw Error("test", "no temporary folder");
    folder = name;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  // The path of what was written; folders on the way are made.
  std::string write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((folder / name).parent_path());
    write_file_atomically(folder / name, text);
    return (folder / name).string();
  }

  std::filesystem::path folder;
};

// What() of what `action` throws; "" when it throws nothing.
template <typename Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

}  // namespace filo
