// The few-shot branch: a memory bank of normal patches for each class and stage (equations 5 and 6 of the paper).
#pragma once

#include <torch/torch.h>

#include <map>
#include <string>

namespace filo {

// Not thread-safe while images are added; const members are.
class FewShotMemory {
 public:
  // Adds normal images of one class: layer -> [K, P, C_v] float32, the P_i^qkv of ImageBatch (K images, or [P, C_v] for
  // one). Vectors are normalised here. Throws UsageError when K = 0, a value is not finite, or layers or C_v differ
  // from what is there.
  void add(const std::string& class_name, const std::map<int, torch::Tensor>& qkv);

  bool empty() const { return patches_.empty(); }
  bool contains(const std::string& class_name) const { return patches_.contains(class_name); }
  int images(const std::string& class_name) const;  // k, 0 for a class without memory

  // Equation 5 for one image and stage: patches [P, C_v] -> [P], 1 - (the largest cosine similarity to the memory), in
  // [0, 2]. Throws UsageError naming the class or layer that is not there.
  torch::Tensor distances(const std::string& class_name, int layer, const torch::Tensor& patches) const;

 private:
  struct Bank {
    std::map<int, torch::Tensor> patches;  // layer -> [rows, C_v], normalised
    int images = 0;
  };
  std::map<std::string, Bank> patches_;
};

}  // namespace filo
