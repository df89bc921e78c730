// Torch tensors in safetensors files, and the checks that every tensor read from outside passes.
#pragma once

#include <torch/torch.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/safetensors.hpp"

namespace filo {

using TensorMap = std::map<std::string, torch::Tensor>;

// A copy on the CPU in the view's own dtype (F32, F64, F16, BF16, F8_*, I64 ... BOOL; not U16, U32, U64). `where` names
// file and tensor.
torch::Tensor to_tensor(const TensorView& view, const std::string& where);

// All tensors of a safetensors file, on the CPU, dtypes as stored. Throws Error naming file and tensor.
TensorMap load_tensors(const std::filesystem::path& path);

// Any device and layout; written contiguous, atomically, in deterministic order. `digest`: as write_safetensors() has
// it.
void save_tensors(const std::filesystem::path& path, const TensorMap& tensors,
                  const std::map<std::string, std::string>& metadata = {}, Sha256* digest = nullptr);

// Throws UsageError "where: shape [..], expected [.., any]" unless the shapes agree; -1 in `expected` matches any size.
void expect_shape(const torch::Tensor& tensor, const std::vector<std::int64_t>& expected, const std::string& where);

// Throws UsageError naming `where` and how many NaN and infinite values there are. Integers pass.
void expect_finite(const torch::Tensor& tensor, const std::string& where);

// The tensor named `name`; throws UsageError naming `where` (the file), the name and the nearest name that is there.
const torch::Tensor& expect_tensor(const TensorMap& tensors, const std::string& name, const std::string& where);

}  // namespace filo
