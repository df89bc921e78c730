// What a CLIP folder is, whatever it is called: the part of every stage's key that stands for the frozen weights.
#pragma once

#include <filesystem>
#include <string>

namespace filo {

// SHA-256 over the names and contents of the folder's config, weights and tokenizer files (Hugging Face or OpenCLIP names).
// Throws UsageError when the folder or its weights are not there.
std::string clip_digest(const std::filesystem::path& folder);

}  // namespace filo
