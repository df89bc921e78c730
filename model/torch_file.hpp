// Files of torch.save (a zip with a pickle), read without running anything from them.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/tensors.hpp"
#include "model/unpickler.hpp"

namespace filo {

// A state dict in such a file. Not thread-safe.
class TorchFile {
 public:
  // The entries under the key `section` where the file's dictionary has it, else that dictionary itself. The pickle is
  // read as data (model/unpickler.hpp): any name but a state dict's (os.system, ...) is refused. Throws UsageError
  // naming `where`: no such file, not one of torch.save, a name that is refused, big-endian numbers.
  TorchFile(const std::filesystem::path& path, std::string_view section, const std::string& where);
  ~TorchFile();

  const std::vector<PickledEntry>& entries() const { return entries_; }  // in the file's order

  // A tensor of its own on the CPU, its dtype as stored. Throws UsageError naming where: NAME when the entry is no
  // floating point tensor, reaches beyond its storage, or holds NaN or infinity.
  torch::Tensor read(const PickledEntry& entry) const;

 private:
  class Archive;
  std::string where_;
  std::unique_ptr<Archive> archive_;
  std::vector<PickledEntry> entries_;
};

}  // namespace filo
