// A CLIP of a few kilobytes with the real vocabulary, and descriptions of two classes, for the tests of this room.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <memory>

#include "model/clip/clip.hpp"
#include "settings/descriptions.hpp"

namespace filo::testing {

inline std::filesystem::path vocabulary_file() {
  return std::filesystem::path(FILO_SOURCE_DIR) / ".deps" / "bpe" / "bpe_simple_vocab_16e6.txt.gz";
}

class TemporaryFolder {
 public:
  TemporaryFolder()
      : path_(std::filesystem::temp_directory_path() / ("filo_model_test_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline ClipConfig tiny_clip_config() {
  ClipConfig config;
  config.vision = {.width = 24, .layers = 4, .heads = 2, .mlp = 32};
  config.text = {.width = 32, .layers = 3, .heads = 4, .mlp = 48};
  config.patch = 14;
  config.image_size = 42;
  config.context_length = 77;
  config.vocabulary = 49408;
  config.projection = 16;
  return config;
}

inline std::shared_ptr<const ClipModel> tiny_clip() {
  const TemporaryFolder folder;
  write_random_clip(folder.path() / "clip", tiny_clip_config(), 7, vocabulary_file());
  return ClipModel::load(folder.path() / "clip");
}

inline Descriptions two_classes() {
  Descriptions descriptions;
  descriptions.normal_states = {"{}", "flawless {}"};
  descriptions.abnormal_states = {"damaged {}"};
  descriptions.classes["metal_nut"] = {"metal nut", "industrial", {"bent edge", "scratched face"}};
  descriptions.classes["pcb1"] = {"pcb", "electronic", {"burn mark"}};
  descriptions.path = "descriptions of the test";
  return descriptions;
}

}  // namespace filo::testing
