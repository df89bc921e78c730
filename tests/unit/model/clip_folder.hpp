// A small random CLIP folder that lives as long as the object.
#pragma once

#include <unistd.h>

#include <filesystem>

#include "model/clip/clip.hpp"

namespace filo {

class ClipFolder {
 public:
  explicit ClipFolder(const ClipConfig& config, std::uint64_t seed = 1)
      : path_(std::filesystem::temp_directory_path() /
              ("filo-clip-" + std::to_string(getpid()) + "-" + std::to_string(seed))) {
    write_random_clip(path_, config, seed, FILO_SOURCE_DIR "/.deps/bpe/bpe_simple_vocab_16e6.txt.gz");
  }
  ~ClipFolder() { std::filesystem::remove_all(path_); }
  ClipFolder(const ClipFolder&) = delete;
  ClipFolder& operator=(const ClipFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

  static ClipConfig small_config() {
    return {{32, 4, 4, 48, Activation::quick_gelu, 1e-5},
            {24, 2, 3, 40, Activation::quick_gelu, 1e-5},
            6,
            24,
            77,
            49408,
            20};
  }

 private:
  std::filesystem::path path_;
};

}  // namespace filo
