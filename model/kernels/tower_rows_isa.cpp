// Compiled once per instruction set, as row_kernels_isa.cpp, which says what to keep to.
#include "model/kernels/tower_rows.hpp"
#include "model/kernels/vector_bfloat16.hpp"

namespace filo::kernels::FILO_ISA {
namespace {

constexpr std::int64_t lanes = Vector<float>::lanes;

// x in [-87, 88], else that of the nearer end. Cephes' expf: 2^n e^r with |r| <= ln(2) / 2.
inline Floats exponential(Floats x) {
  const Floats low = Floats{} - 87.0f, high = Floats{} + 88.0f;
  x = x < low ? low : x;
  x = x > high ? high : x;
  const Floats shifted = x * 1.44269504f + 12582912.0f;  // rounds to an integer, which its last bits hold
  const Floats n = shifted - 12582912.0f;
  const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const Floats e = p * (r * r) + r + 1.0f;
  return floats_of(bits_of(e) + (bits_of(shifted) << 23));
}

// All of [0, n) in whole vectors; the last one, where n is no multiple, from and to a copy filled up with `fill`.
template <typename T, typename Body>
inline void for_each_vector(const T* x, std::int64_t n, T fill, const Body& body) {
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(x + i, i, lanes);
  if (i == n) return;
  T last[lanes];
  for (std::int64_t k = 0; k < lanes; ++k) last[k] = i + k < n ? x[i + k] : fill;
  body(last, i, n - i);
}

template <typename T>
inline void store_some(T* out, Floats v, std::int64_t count) {
  if (count == lanes) return store_floats(out, v);
  T all[lanes];
  store_floats(all, v);
  for (std::int64_t k = 0; k < count; ++k) out[k] = all[k];
}

template <typename T>
float exponentials(const float* x, std::int64_t n, T* out) {
  Floats most = Floats{} + x[0];
  for_each_vector(x, n, x[0], [&](const float* p, std::int64_t, std::int64_t) {
    const Floats v = load_floats(p);
    most = most < v ? v : most;
  });
  float largest = most[0];
  for (std::int64_t k = 1; k < lanes; ++k) largest = largest < most[k] ? most[k] : largest;
  Floats sums = {};
  for_each_vector(x, n, 0.0f, [&](const float* p, std::int64_t at, std::int64_t count) {
    Floats e = exponential(load_floats(p) - largest);
    for (std::int64_t k = count; k < lanes; ++k) e[k] = 0;
    sums += e;
    store_some(out + at, e, count);
  });
  float sum = 0;
  for (std::int64_t k = 0; k < lanes; ++k) sum += sums[k];
  return sum;
}

template <typename T>
void quick_gelu(T* x, std::int64_t n) {
  for_each_vector(static_cast<const T*>(x), n, T(0), [&](const T* p, std::int64_t at, std::int64_t count) {
    const Floats v = load_floats(p);
    store_some(x + at, v / (1.0f + exponential(v * -1.702f)), count);
  });
}

}  // namespace

extern const TowerRows<float> float_tower_rows;
extern const TowerRows<Bfloat16> bfloat16_tower_rows;
const TowerRows<float> float_tower_rows = {exponentials<float>, quick_gelu<float>};
const TowerRows<Bfloat16> bfloat16_tower_rows = {exponentials<Bfloat16>, quick_gelu<Bfloat16>};

}  // namespace filo::kernels::FILO_ISA
