// What a folder of CLIP weights is, whatever it is called: part of every stage's key, checked again by the workers.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace filo {

// The files of a Hugging Face CLIP folder that the programs read.
const std::vector<std::string>& clip_files();

// SHA-256 over the names, sizes and contents of clip_files(), 64 hex digits. Throws UsageError naming the file that is
// missing. Reads all of it (1.7 GB for ViT-L: seconds); the planner keeps a cache (scheduler/plan/digests.hpp).
std::string clip_digest(const std::filesystem::path& folder);

// Throws UsageError naming the first of clip_files() that is not there, and how to get one.
void check_clip_folder(const std::filesystem::path& folder);

}  // namespace filo
