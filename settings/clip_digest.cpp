#include "settings/clip_digest.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"

namespace filo {

const std::vector<std::string>& clip_files() {
  static const std::vector<std::string> files = {"config.json", "model.safetensors", "vocab.json", "merges.txt"};
  return files;
}

void check_clip_folder(const std::filesystem::path& folder) {
  for (const auto& name : clip_files()) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(folder / name, error))
      throw UsageError("settings: model.clip: " + (folder / name).string(),
                       "found no such file, expected a Hugging Face CLIP folder with config.json, model.safetensors, "
                       "vocab.json and merges.txt (random weights: filo-worker init-clip --size tiny --out DIR)");
  }
}

std::string clip_digest(const std::filesystem::path& folder) {
  check_clip_folder(folder);
  Sha256 hash;
  for (const auto& name : clip_files()) {
    const auto path = folder / name;
    hash.update(name + "\n" + std::to_string(std::filesystem::file_size(path)) + "\n");
    const FileDescriptor file = open_file(path, O_RDONLY);
    std::vector<std::byte> buffer(1 << 20);
    for (;;) {
      const ssize_t got = read(file.get(), buffer.data(), buffer.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw Error("settings: " + path.string(), std::string("read failed: ") + std::strerror(errno));
      if (got == 0) break;
      hash.update(std::span<const std::byte>(buffer.data(), static_cast<std::size_t>(got)));
    }
  }
  return hash.hex();
}

}  // namespace filo
