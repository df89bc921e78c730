// The descriptions that FiLo's authors published inside their code, read from a user's own copy of it.
#pragma once

#include <filesystem>

#include "settings/descriptions.hpp"

namespace filo {

// From models/FiLo.py of FiLo's repository: status_normal, status_abnormal_winclip, every *_anomaly_detail_gpt (class
// -> comma-separated details, kept letter by letter, blanks included) and the names that cls_map gives classes. Only
// literals are read, by their place in the file; nothing is run. FiLo keeps a class's prompts under the name it is
// called by, so that of several classes with one name the last one's details stand for all: macaroni1 gets those of
// macaroni2. What its test asks the detector for are the class's own details, in the copy of them that test.py has:
// they are taken from there where it lies beside models/, and become detector_phrases where they differ from the
// descriptions. Throws UsageError naming the file and line: no such name, or a value that is no literal of the expected
// form.
Descriptions import_published_descriptions(const std::filesystem::path& path);

}  // namespace filo
