#include "model/kernels/row_kernels.hpp"
#include "model/kernels/sample_rows.hpp"
#include "model/kernels/tile_transform.hpp"
#include "model/kernels/tower_rows.hpp"

namespace filo::kernels {

#define FILO_DECLARE_ISA(isa)                               \
  namespace isa {                                           \
  extern const RowKernels<float> float_kernels;             \
  extern const RowKernels<double> double_kernels;           \
  extern const SampleRows<float> float_sample_rows;         \
  extern const SampleRows<Bfloat16> bfloat16_sample_rows;   \
  extern const TileTransform<float> float_tile_transform;   \
  extern const TileTransform<double> double_tile_transform; \
  extern const TowerRows<float> float_tower_rows;           \
  extern const TowerRows<Bfloat16> bfloat16_tower_rows;     \
  }
FILO_DECLARE_ISA(baseline)
FILO_DECLARE_ISA(avx2)
FILO_DECLARE_ISA(avx512)
#undef FILO_DECLARE_ISA

namespace {

enum class InstructionSet { baseline, avx2, avx512 };

InstructionSet best_instruction_set() {
  static const InstructionSet best = [] {
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (avx2 && avx512) return InstructionSet::avx512;
    return avx2 ? InstructionSet::avx2 : InstructionSet::baseline;
  }();
  return best;
}

template <typename Table>
const Table& best_of(const Table& baseline, const Table& avx2, const Table& avx512) {
  switch (best_instruction_set()) {
    case InstructionSet::avx512:
      return avx512;
    case InstructionSet::avx2:
      return avx2;
    default:
      return baseline;
  }
}

}  // namespace

template <>
const RowKernels<float>& row_kernels<float>() {
  return best_of(baseline::float_kernels, avx2::float_kernels, avx512::float_kernels);
}

template <>
const RowKernels<double>& row_kernels<double>() {
  return best_of(baseline::double_kernels, avx2::double_kernels, avx512::double_kernels);
}

template <>
const SampleRows<float>& sample_rows<float>() {
  return best_of(baseline::float_sample_rows, avx2::float_sample_rows, avx512::float_sample_rows);
}

template <>
const SampleRows<Bfloat16>& sample_rows<Bfloat16>() {
  return best_of(baseline::bfloat16_sample_rows, avx2::bfloat16_sample_rows, avx512::bfloat16_sample_rows);
}

template <>
const TileTransform<float>& tile_transform<float>() {
  return best_of(baseline::float_tile_transform, avx2::float_tile_transform, avx512::float_tile_transform);
}

template <>
const TileTransform<double>& tile_transform<double>() {
  return best_of(baseline::double_tile_transform, avx2::double_tile_transform, avx512::double_tile_transform);
}

template <>
const TowerRows<float>& tower_rows<float>() {
  return best_of(baseline::float_tower_rows, avx2::float_tower_rows, avx512::float_tower_rows);
}

template <>
const TowerRows<Bfloat16>& tower_rows<Bfloat16>() {
  return best_of(baseline::bfloat16_tower_rows, avx2::bfloat16_tower_rows, avx512::bfloat16_tower_rows);
}

const char* instruction_set() {
  switch (best_instruction_set()) {
    case InstructionSet::avx512:
      return "avx512";
    case InstructionSet::avx2:
      return "avx2";
    default:
      return "baseline";
  }
}

}  // namespace filo::kernels
