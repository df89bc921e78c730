// The pickle inside a torch.save file, read as data: a state dict and nothing else can come out of it.
//
// Pickle is a program for a stack machine. Here the only names it may use are those of a state dict
// (collections.OrderedDict, torch._utils._rebuild_tensor_v2, _rebuild_parameter, torch.*Storage), and they build plain
// descriptions; any other name ends the reading. (LibTorch's own unpickler turns every OrderedDict into None, and a
// state dict is one.)
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace filo {

// Where a tensor lies: elements of the archive's record data/`storage_key`. Nothing here is checked against that record
// yet.
struct PickledTensor {
  std::string storage_type;           // "FloatStorage", "HalfStorage", ...
  std::string storage_key;            // "0", "1", ...
  std::int64_t storage_elements = 0;  // >= 0
  std::int64_t offset = 0;            // elements, >= 0
  std::vector<std::int64_t> shape;    // each >= 0
  std::vector<std::int64_t> strides;  // elements, each >= 0, as many as in `shape`
};

struct PickledEntry {
  std::string name;
  std::optional<PickledTensor> tensor;  // empty: the value is something else
};

// The entries, in order, of the dictionary under the key `section` where the top-level dictionary has it, else of that
// dictionary. Throws UsageError "where: ..." for anything else than such a pickle (protocols 2 to 5), names it may not
// use, and names twice.
std::vector<PickledEntry> read_pickled_state_dict(std::string_view pickle, std::string_view section,
                                                  const std::string& where);

}  // namespace filo
