#include "model/kernels/row_kernels.hpp"

namespace filo::kernels {

#define FILO_DECLARE_ISA(isa)                     \
  namespace isa {                                 \
  extern const RowKernels<float> float_kernels;   \
  extern const RowKernels<double> double_kernels; \
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

}  // namespace

template <>
const RowKernels<float>& row_kernels<float>() {
  switch (best_instruction_set()) {
    case InstructionSet::avx512:
      return avx512::float_kernels;
    case InstructionSet::avx2:
      return avx2::float_kernels;
    default:
      return baseline::float_kernels;
  }
}

template <>
const RowKernels<double>& row_kernels<double>() {
  switch (best_instruction_set()) {
    case InstructionSet::avx512:
      return avx512::double_kernels;
    case InstructionSet::avx2:
      return avx2::double_kernels;
    default:
      return baseline::double_kernels;
  }
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
