// Arithmetic on rows of neurons: each loop is one vector operation on what lies in the L1 cache. An output may be
// one of the inputs. No fast-math and no contraction, so that every operation rounds as torch's does.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#define EACH _Pragma("omp simd") for (int64_t n = 0; n < size; ++n)

template <class F> void fill(int64_t size, F* out, F value) { EACH out[n] = value; }
template <class F> void copy(int64_t size, F* out, const F* x) { EACH out[n] = x[n]; }
template <class F> void add(int64_t size, F* out, const F* x) { EACH out[n] += x[n]; }
template <class F> void sub(int64_t size, F* out, const F* x) { EACH out[n] -= x[n]; }
template <class F> void difference(int64_t size, F* out, const F* x, const F* y) { EACH out[n] = x[n] - y[n]; }
template <class F> void mul(int64_t size, F* out, const F* x, const F* y) { EACH out[n] = x[n] * y[n]; }
template <class F> void add_mul(int64_t size, F* out, const F* x, const F* y) { EACH out[n] += x[n] * y[n]; }
template <class F> void sub_mul(int64_t size, F* out, const F* x, const F* y) { EACH out[n] -= x[n] * y[n]; }

// out = (1 - x) y
template <class F> void mul_not(int64_t size, F* out, const F* x, const F* y) { EACH out[n] = (1 - x[n]) * y[n]; }

// out = decay before + x
template <class F> void leak(int64_t size, F* out, const F* decay, const F* before, const F* x) {
  EACH out[n] = decay[n] * before[n] + x[n];
}

template <class F> F above(F x, F threshold) { return x - threshold > 0 ? F(1) : F(0); }

// out = [x > threshold]
template <class F> void fire(int64_t size, F* out, const F* x, const F* threshold) {
  EACH out[n] = above(x[n], threshold[n]);
}

// u = decay before + x - r threshold, s = [u > threshold]
template <class F>
void leak_subtract_fire(
    int64_t size, F* s, F* u, const F* decay, const F* before, const F* x, const F* r, const F* threshold) {
  EACH {
    F value = decay[n] * before[n] + x[n];
    value -= r[n] * threshold[n];
    u[n] = value;
    s[n] = above(value, threshold[n]);
  }
}

// How a flat operand covers the neurons: `layout.Pattern`.
struct Pattern {
  int64_t M, K, so, sm, sk;
};

// out = neurons begin, begin + 1, ... of a flat operand
template <class F> void expand(int64_t size, F* out, const F* x, int64_t begin, const Pattern& p) {
  if (p.so == 0 && p.sm == 0 && p.sk == 0) return fill(size, out, x[0]);
  for (int64_t done = 0; done < size;) {
    const int64_t outer = (begin + done) / p.K, k = (begin + done) % p.K;
    const int64_t run = std::min(p.K - k, size - done);
    const F* from = x + outer / p.M * p.so + outer % p.M * p.sm + k * p.sk;
    if (p.sk) copy(run, out + done, from);
    else fill(run, out + done, *from);
    done += run;
  }
}

// Surrogates in the order of `surrogate.SURROGATES`; each a pair of the derivative and the derivative of that.
enum Kind : int64_t { FAST_SIGMOID, ATAN, SIGMOID, TRIANGULAR, STRAIGHT_THROUGH };

template <class F> F sign(F x) { return x > 0 ? F(1) : (x < 0 ? F(-1) : F(0)); }

template <class F> struct FastSigmoid {
  F k;
  F first(F x) const { F root = 1 + k * std::abs(x); return 1 / (root * root); }
  F second(F x) const { F root = 1 + k * std::abs(x); return sign(x) * (-2 * k) / (root * root * root); }
};

template <class F> struct Atan {
  F k, c = F(1.5707963267948966) * k;
  F first(F x) const { return k / 2 / (1 + c * x * (c * x)); }
  F second(F x) const { F root = 1 + c * x * (c * x); return -k * c * c * x / (root * root); }
};

template <class F> struct Sigmoid {
  F k;
  F first(F x) const { F e = std::exp(-k * std::abs(x)); return k * e / ((1 + e) * (1 + e)); }
  F second(F x) const {
    F e = std::exp(-k * std::abs(x)), root = 1 + e;
    return -sign(x) * k * k * e * (1 - e) / (root * root * root);
  }
};

template <class F> struct Triangular {
  F k;
  F first(F x) const { return k * std::max(1 - k * std::abs(x), F(0)); }
  F second(F x) const { return k * std::abs(x) < 1 ? -k * k * sign(x) : F(0); }
};

template <class F> struct StraightThrough {
  F k;
  F first(F) const { return 1; }
  F second(F) const { return 0; }
};

// Calls f with the surrogate, so that the choice stands outside of f's loop.
template <class F, class Function> void with_surrogate(int64_t kind, F k, Function f) {
  switch (kind) {
    case FAST_SIGMOID: return f(FastSigmoid<F>{k});
    case ATAN: return f(Atan<F>{k});
    case SIGMOID: return f(Sigmoid<F>{k});
    case TRIANGULAR: return f(Triangular<F>{k});
    default: return f(StraightThrough<F>{k});
  }
}
