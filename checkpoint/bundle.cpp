#include "checkpoint/bundle.hpp"

#include "base/error.hpp"
#include "base/files.hpp"
#include "base/hash.hpp"
#include "workspace/checkpoint_files.hpp"

namespace filo {

namespace fs = std::filesystem;

void write_bundle(const fs::path& bundle, const std::map<std::string, fs::path>& files, const Json& settings) {
  AtomicFolder output(bundle);
  std::string sums;
  const auto add_sum = [&](const std::string& name) {
    sums += sha256_hex_of_file(output.path() / name) + "  " + name + "\n";
  };
  for (const auto& [name, source] : files) {
    std::error_code error;
    fs::create_directories((output.path() / name).parent_path(), error);
    if (!error) fs::copy_file(source, output.path() / name, error);
    if (error)
      throw Error("bundle: " + (bundle / name).string(),
                  "cannot be copied from " + source.string() + ": " + error.message());
    add_sum(name);
  }
  write_json(settings_file(output.path()), settings);
  add_sum(settings_name);
  write_file_atomically(output.path() / "SHA256SUMS", sums);
  output.commit();
}

}  // namespace filo
