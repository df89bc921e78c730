// A checkpoint that can be taken elsewhere: a folder that holds all that its model needs, and nothing of the machine it
// was trained on.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "base/json.hpp"

namespace filo {

// Writes the folder `bundle`, durably, by rename; one that is there is replaced. `files`: name within the bundle
// ("clip/config.json") -> the file to copy. `settings` becomes settings.json, and SHA256SUMS is what `sha256sum -c`
// reads. Throws Error (a file that is not there, a full disk); `bundle` is as it was then.
void write_bundle(const std::filesystem::path& bundle, const std::map<std::string, std::filesystem::path>& files,
                  const Json& settings);

}  // namespace filo
