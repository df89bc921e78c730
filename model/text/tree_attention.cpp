#include "model/text/tree_attention.hpp"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>

namespace filo {
namespace {

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FILO_FOR_EACH_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FILO_FOR_EACH_CPU
#endif

// Rows of a packed matrix, one head's columns: row i starts at data + i * stride.
struct Rows {
  const float* data;
  std::int64_t stride;
  const float* operator[](std::int64_t i) const { return data + i * stride; }
};
struct MutableRows {
  float* data;
  std::int64_t stride;
  float* operator[](std::int64_t i) const { return data + i * stride; }
};

struct Paths {
  const std::int64_t* start;
  const std::int64_t* nodes;
  std::int64_t queries;
};

// One head, forward. `weights` receives the softmax of every path, in the order of paths.nodes.
FILO_FOR_EACH_CPU void attend(const Paths& paths, const Rows& query, const Rows& key, const Rows& value,
                              std::int64_t width, float scale, float* weights, const MutableRows& out) {
  for (std::int64_t q = 0; q < paths.queries; ++q) {
    const float* query_row = query[q];
    float* out_row = out[q];
    const std::int64_t begin = paths.start[q], end = paths.start[q + 1];
    float largest = -std::numeric_limits<float>::infinity();
    for (std::int64_t at = begin; at < end; ++at) {
      const float* key_row = key[paths.nodes[at]];
      float product = 0;
#pragma omp simd reduction(+ : product)
      for (std::int64_t c = 0; c < width; ++c) product += query_row[c] * key_row[c];
      weights[at] = product * scale;
      largest = std::max(largest, weights[at]);
    }
    float sum = 0;
    for (std::int64_t at = begin; at < end; ++at) {
      weights[at] = std::exp(weights[at] - largest);
      sum += weights[at];
    }
#pragma omp simd
    for (std::int64_t c = 0; c < width; ++c) out_row[c] = 0;
    for (std::int64_t at = begin; at < end; ++at) {
      const float weight = weights[at] /= sum;
      const float* value_row = value[paths.nodes[at]];
#pragma omp simd
      for (std::int64_t c = 0; c < width; ++c) out_row[c] += weight * value_row[c];
    }
  }
}

struct HeadGradients {
  MutableRows query, key, value;  // zeroed
};

// One head, backward: adds to the gradients. `scratch` holds one path.
FILO_FOR_EACH_CPU void attend_backward(const Paths& paths, const Rows& query, const Rows& key, const Rows& value,
                                       std::int64_t width, float scale, const float* weights, const Rows& grad_out,
                                       float* scratch, const HeadGradients& grad) {
  for (std::int64_t q = 0; q < paths.queries; ++q) {
    const float* query_row = query[q];
    const float* grad_row = grad_out[q];
    float* grad_query = grad.query[q];
    const std::int64_t begin = paths.start[q], end = paths.start[q + 1];
    float mean = 0;
    for (std::int64_t at = begin; at < end; ++at) {
      const float* value_row = value[paths.nodes[at]];
      float* grad_value = grad.value[paths.nodes[at]];
      const float weight = weights[at];
      float product = 0;
#pragma omp simd reduction(+ : product)
      for (std::int64_t c = 0; c < width; ++c) product += grad_row[c] * value_row[c];
#pragma omp simd
      for (std::int64_t c = 0; c < width; ++c) grad_value[c] += weight * grad_row[c];
      scratch[at - begin] = product;
      mean += weight * product;
    }
    for (std::int64_t at = begin; at < end; ++at) {
      const float slope = weights[at] * (scratch[at - begin] - mean) * scale;
      const float* key_row = key[paths.nodes[at]];
      float* grad_key = grad.key[paths.nodes[at]];
#pragma omp simd
      for (std::int64_t c = 0; c < width; ++c) {
        grad_query[c] += slope * key_row[c];
        grad_key[c] += slope * query_row[c];
      }
    }
  }
}

Paths view(const AncestorPaths& paths) { return {paths.start().data(), paths.nodes().data(), paths.queries()}; }

torch::Tensor with_dense_rows(const torch::Tensor& x) { return x.stride(1) == 1 ? x : x.contiguous(); }

class PathsHolder : public torch::CustomClassHolder {
 public:
  explicit PathsHolder(std::shared_ptr<const AncestorPaths> held) : paths(std::move(held)) {}
  std::shared_ptr<const AncestorPaths> paths;
};

class TreeAttention : public torch::autograd::Function<TreeAttention> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& given_query,
                               const torch::Tensor& given_key_value, std::shared_ptr<const AncestorPaths> paths,
                               std::int64_t heads) {
    const torch::Tensor query = with_dense_rows(given_query), key_value = with_dense_rows(given_key_value);
    const std::int64_t total = query.size(1), width = total / heads;
    const auto path_length = static_cast<std::int64_t>(paths->nodes().size());
    torch::Tensor weights = torch::empty({heads, path_length}, query.options());
    torch::Tensor out = torch::empty({query.size(0), total}, query.options());
    const float scale = 1.0f / std::sqrt(static_cast<float>(width));
    at::parallel_for(0, heads, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t head = begin; head < end; ++head) {
        const std::int64_t column = head * width;
        attend(view(*paths), {query.const_data_ptr<float>() + column, query.stride(0)},
               {key_value.const_data_ptr<float>() + column, key_value.stride(0)},
               {key_value.const_data_ptr<float>() + total + column, key_value.stride(0)}, width, scale,
               weights.data_ptr<float>() + head * path_length, {out.data_ptr<float>() + column, total});
      }
    });
    context->save_for_backward({query, key_value, weights});
    context->saved_data["heads"] = heads;
    context->saved_data["paths"] = c10::IValue::make_capsule(c10::make_intrusive<PathsHolder>(std::move(paths)));
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list grads) {
    const auto saved = context->get_saved_variables();
    const torch::Tensor& query = saved[0];
    const torch::Tensor& key_value = saved[1];
    const torch::Tensor& weights = saved[2];
    const torch::Tensor grad_out = grads[0].contiguous();
    const std::int64_t heads = context->saved_data["heads"].toInt();
    const auto paths = c10::static_intrusive_pointer_cast<PathsHolder>(context->saved_data["paths"].toCapsule())->paths;
    const std::int64_t total = query.size(1), width = total / heads;
    const auto path_length = static_cast<std::int64_t>(paths->nodes().size());
    torch::Tensor grad_query = torch::zeros({query.size(0), total}, query.options());
    torch::Tensor grad_key_value = torch::zeros({key_value.size(0), 2 * total}, query.options());
    const float scale = 1.0f / std::sqrt(static_cast<float>(width));
    at::parallel_for(0, heads, 1, [&](std::int64_t begin, std::int64_t end) {
      std::vector<float> scratch(static_cast<std::size_t>(path_length));
      for (std::int64_t head = begin; head < end; ++head) {
        const std::int64_t column = head * width;
        attend_backward(view(*paths), {query.const_data_ptr<float>() + column, query.stride(0)},
                        {key_value.const_data_ptr<float>() + column, key_value.stride(0)},
                        {key_value.const_data_ptr<float>() + total + column, key_value.stride(0)}, width, scale,
                        weights.const_data_ptr<float>() + head * path_length,
                        {grad_out.const_data_ptr<float>() + column, total}, scratch.data(),
                        {{grad_query.data_ptr<float>() + column, total},
                         {grad_key_value.data_ptr<float>() + column, 2 * total},
                         {grad_key_value.data_ptr<float>() + total + column, 2 * total}});
      }
    });
    return {grad_query, grad_key_value, torch::Tensor(), torch::Tensor()};
  }
};

torch::Tensor dense_attention(const torch::Tensor& query, const torch::Tensor& key_value, const AncestorPaths& paths,
                              std::int64_t heads) {
  const std::int64_t total = query.size(1);
  const auto by_head = [&](const torch::Tensor& x) {
    return x.reshape({1, x.size(0), heads, total / heads}).transpose(1, 2);
  };
  const torch::Tensor out = at::scaled_dot_product_attention(
      by_head(query), by_head(key_value.narrow(1, 0, total)), by_head(key_value.narrow(1, total, total)),
      paths.mask(key_value.size(0), query.device()).to(query.dtype()));
  return out.transpose(1, 2).reshape({query.size(0), total});
}

std::vector<std::int64_t> counting(std::size_t n) {
  std::vector<std::int64_t> numbers(n);
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

}  // namespace

AncestorPaths::AncestorPaths(const std::vector<std::int64_t>& parent)
    : AncestorPaths(parent, counting(parent.size())) {}

AncestorPaths::AncestorPaths(const std::vector<std::int64_t>& parent, const std::vector<std::int64_t>& queries)
    : start_{0} {
  for (const std::int64_t query : queries) {
    const std::size_t begin = nodes_.size();
    for (std::int64_t node = query; node >= 0; node = parent[static_cast<std::size_t>(node)]) nodes_.push_back(node);
    std::reverse(nodes_.begin() + static_cast<std::ptrdiff_t>(begin), nodes_.end());
    start_.push_back(static_cast<std::int64_t>(nodes_.size()));
  }
}

torch::Tensor AncestorPaths::mask(std::int64_t node_count, torch::Device device) const {
  torch::Tensor mask = torch::full({queries(), node_count}, -std::numeric_limits<float>::infinity());
  float* values = mask.data_ptr<float>();
  for (std::int64_t query = 0; query < queries(); ++query) {
    for (std::int64_t at = start_[static_cast<std::size_t>(query)]; at < start_[static_cast<std::size_t>(query) + 1];
         ++at) {
      values[query * node_count + nodes_[static_cast<std::size_t>(at)]] = 0;
    }
  }
  return mask.to(device);
}

torch::Tensor tree_attention(const torch::Tensor& query, const torch::Tensor& key_value,
                             std::shared_ptr<const AncestorPaths> paths, int heads) {
  assert(query.dim() == 2 && key_value.dim() == 2 && key_value.size(1) == 2 * query.size(1));
  assert(query.size(0) == paths->queries() && query.size(1) % heads == 0);
  if (query.device().is_cpu() && query.scalar_type() == torch::kFloat32) {
    return TreeAttention::apply(query, key_value, std::move(paths), static_cast<std::int64_t>(heads));
  }
  return dense_attention(query, key_value, *paths, heads);
}

}  // namespace filo
