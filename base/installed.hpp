// The files that come with the programs: configs/ beside an installed program, or in the checkout it was built in.
#pragma once

#include <filesystem>

namespace filo {

// A path of configs/ ("configs/experiments/demo.yaml") that is not there as it stands, where the program's own copy is:
// PREFIX/share/filo/configs of an installed program, the checkout's configs/ of one in build/bin. Every other path, and
// one that lies in none of these places, is returned as it was given.
std::filesystem::path shipped_file(const std::filesystem::path& path);

// As above for a program that lies in `program_folder`.
std::filesystem::path shipped_file(const std::filesystem::path& path, const std::filesystem::path& program_folder);

}  // namespace filo
