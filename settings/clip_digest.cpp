#include "settings/clip_digest.hpp"

#include "base/error.hpp"
#include "base/hash.hpp"
#include "base/json.hpp"

namespace filo {

std::string clip_digest(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder))
    throw UsageError("settings: model.clip", "found '" + folder.string() + "', which is no folder; expected a CLIP folder "
                                             "(config.json, model.safetensors, vocab.json, merges.txt)");
  Json digests = Json::object();
  for (const char* name : {"config.json", "model.safetensors", "open_clip_config.json", "open_clip_model.safetensors", "vocab.json", "merges.txt"})
    if (std::filesystem::exists(folder / name)) digests[name] = sha256_hex_of_file(folder / name);
  if (!digests.contains("model.safetensors") && !digests.contains("open_clip_model.safetensors"))
    throw UsageError("settings: model.clip: " + folder.string(), "holds neither model.safetensors nor open_clip_model.safetensors");
  return sha256_hex(canonical_json(digests));
}

}  // namespace filo
