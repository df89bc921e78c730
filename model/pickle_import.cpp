#include "model/pickle_import.hpp"

#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/serialization/import_read.h>

#include <array>
#include <string_view>

#include "base/error.hpp"

namespace filo {
namespace {

constexpr std::array<std::string_view, 5> learnable = {"normal_prompt_learner.", "abnormal_prompt_learner.",
                                                       "decoder_linear.", "decoder_cov.", "adapter."};
constexpr std::array<std::string_view, 2> frozen = {"clip_model.", "text_encoder."};

bool starts_with_any(std::string_view name, const auto& prefixes) {
  return std::ranges::any_of(prefixes, [&](std::string_view prefix) { return name.starts_with(prefix); });
}

// The first line of LibTorch's message: the rest is a stack trace.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

c10::IValue unpickle(const std::filesystem::path& path, const std::string& where) {
  const auto refuse = [&](const c10::QualifiedName& name) -> c10::StrongTypePtr {
    throw UsageError(where,
                     "the pickle asks for " + name.qualifiedName() + ", which is not part of a state dict: refused");
  };
  try {
    caffe2::serialize::PyTorchStreamReader reader(path.string());
    return torch::jit::readArchiveAndTensors("data", "", "", refuse, std::nullopt, torch::Device(torch::kCPU), reader);
  } catch (const Error&) {
    throw;
  } catch (const c10::Error& error) {
    throw UsageError(where, "not a checkpoint that can be read: " + first_line(error.what_without_backtrace()));
  } catch (const std::exception& error) {
    throw UsageError(where, "not a checkpoint that can be read: " + first_line(error.what()));
  }
}

std::string key_name(const c10::IValue& key, const std::string& where) {
  if (!key.isString()) throw UsageError(where, "a dictionary's key is not a string");
  return key.toStringRef();
}

// {"filo": state dict}, or the state dict itself.
c10::impl::GenericDict find_state_dict(const c10::IValue& root, const std::string& where) {
  if (!root.isGenericDict()) throw UsageError(where, "holds " + root.tagKind() + ", expected a dictionary of tensors");
  const auto dictionary = root.toGenericDict();
  for (const auto& entry : dictionary) {
    if (key_name(entry.key(), where) != "filo") continue;
    if (!entry.value().isGenericDict()) throw UsageError(where + ": filo", "expected a state dict");
    return entry.value().toGenericDict();
  }
  return dictionary;
}

std::string without_module(std::string name) {
  constexpr std::string_view prefix = "module.";
  while (name.starts_with(prefix)) name.erase(0, prefix.size());
  return name;
}

}  // namespace

ImportedCheckpoint import_filo_checkpoint(const std::filesystem::path& path) {
  const std::string where = "import-checkpoint: " + path.string();
  if (!std::filesystem::is_regular_file(path)) throw UsageError(where, "no such file");
  ImportedCheckpoint checkpoint;
  for (const auto& entry : find_state_dict(unpickle(path, where), where)) {
    const std::string name = without_module(key_name(entry.key(), where));
    if (starts_with_any(name, frozen)) {
      checkpoint.frozen.push_back(name);
    } else if (!starts_with_any(name, learnable)) {
      checkpoint.unknown.push_back(name);
    } else {
      if (!entry.value().isTensor() || !entry.value().toTensor().defined())
        throw UsageError(where + ": " + name, "is not a tensor");
      const torch::Tensor tensor = entry.value().toTensor();
      if (!tensor.is_floating_point() || tensor.layout() != torch::kStrided) {
        throw UsageError(where + ": " + name, "expected a dense floating point tensor");
      }
      expect_finite(tensor, where + ": " + name);
      checkpoint.parameters[name] = tensor.to(torch::kFloat32).contiguous();
    }
  }
  if (checkpoint.parameters.empty()) {
    throw UsageError(where, "holds none of FiLo's parameters (normal_prompt_learner.*, decoder_cov.*, adapter.*, ...)");
  }
  return checkpoint;
}

}  // namespace filo
