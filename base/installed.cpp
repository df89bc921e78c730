#include "base/installed.hpp"

namespace filo {

namespace fs = std::filesystem;

fs::path shipped_file(const fs::path& path, const fs::path& program_folder) {
  std::error_code error;
  if (path.empty() || *path.begin() != "configs" || fs::exists(path, error)) return path;
  for (const char* data : {FILO_DATA_FROM_PROGRAMS, "../.."}) {
    const fs::path shipped = (program_folder / data / path).lexically_normal();
    if (fs::is_regular_file(shipped, error)) return shipped;
  }
  return path;
}

fs::path shipped_file(const fs::path& path) {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  return error ? path : shipped_file(path, program.parent_path());
}

}  // namespace filo
