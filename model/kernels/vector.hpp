// 64-byte vectors of the compiler's own (GCC, Clang); narrower instruction sets split them. For the *_isa.cpp files
// only.
#pragma once

#include <cstdint>

namespace filo::kernels::FILO_ISA {

constexpr int vector_bytes = 64;

template <typename T>
struct Vector {
  using Type __attribute__((vector_size(vector_bytes), aligned(sizeof(T)), may_alias)) = T;
  static constexpr std::int64_t lanes = vector_bytes / sizeof(T);
};

template <typename T>
using Vec = typename Vector<T>::Type;

template <typename T>
inline Vec<T> load(const T* p) {
  return *reinterpret_cast<const Vec<T>*>(p);
}

template <typename T>
inline void store(T* p, Vec<T> v) {
  *reinterpret_cast<Vec<T>*>(p) = v;
}

// The first `count` lanes; the others are zero, or stay.
template <typename T>
inline Vec<T> load(const T* p, std::int64_t count) {
  if (count >= Vector<T>::lanes) return load<T>(p);
  Vec<T> v = {};
  for (std::int64_t i = 0; i < count; ++i) v[i] = p[i];
  return v;
}

template <typename T>
inline void store(T* p, Vec<T> v, std::int64_t count) {
  if (count >= Vector<T>::lanes) return store<T>(p, v);
  for (std::int64_t i = 0; i < count; ++i) p[i] = v[i];
}

}  // namespace filo::kernels::FILO_ISA
