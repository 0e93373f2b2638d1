// What the three scans share: their arguments, and the rows of a block of neurons.
#pragma once

#include <vector>

#include "rows.h"

constexpr int64_t BLOCK = 512;  // neurons: some ten rows of 2 KiB lie in an L1 cache of 32 to 48 KiB
constexpr int64_t PAD = 16;     // keeps rows of scratch from sharing the low bits of their addresses

enum Reset : int64_t { SUBTRACT, ZERO, NONE };  // in the order of `equation.RESETS`
enum Operand { ALPHA, BETA, THRESHOLD, RHO, ADAPTATION, V0, I0, A0, OPERANDS };  // in the order of `scan.OPERANDS`

// `scan.Scan`
struct Variant {
  int64_t delay, detach, reset, filtered, adaptive, kind;
  double slope;
};

// A matrix (steps, N) of which a null pointer is absent, and one of a single step serves all of them.
template <class F> struct Steps {
  F* data;
  int64_t steps, neurons;
  explicit operator bool() const { return data != nullptr; }
  F* at(int64_t t, int64_t begin) const { return data + (steps > 1 ? t : 0) * neurons + begin; }
};

template <class F> struct Operands {
  const F* data[OPERANDS];
  Pattern patterns[OPERANDS];
};

// `count` rows of scratch for a block of `neurons`, BLOCK at most.
template <class F> struct Scratch {
  int64_t stride;
  std::vector<F> memory;
  Scratch(int64_t count, int64_t neurons) : stride(std::min(BLOCK, neurons) + PAD), memory(count * stride) {}
  F* operator[](int64_t row) { return memory.data() + row * stride; }
};

// The operands of a block, expanded, and 1 - rho.
template <class F> struct Constants {
  Scratch<F> rows;
  explicit Constants(int64_t neurons) : rows(OPERANDS + 1, neurons) {}
  F* operator[](int64_t row) { return rows[row]; }
  F* rest() { return rows[OPERANDS]; }
  void load(int64_t size, const Operands<F>& from, int64_t begin, const Variant& how) {
    auto one = [&](Operand which) { expand(size, rows[which], from.data[which], begin, from.patterns[which]); };
    for (Operand which : {BETA, THRESHOLD, V0}) one(which);
    if (how.filtered)
      for (Operand which : {ALPHA, I0}) one(which);
    if (how.adaptive) {
      for (Operand which : {RHO, ADAPTATION, A0}) one(which);
      F *rho = rows[RHO], *out = rest();
      EACH out[n] = 1 - rho[n];
    }
  }
};

// threshold + adaptation a
template <class F> void threshold_at(int64_t size, F* out, Constants<F>& c, const Variant& how, const F* a) {
  copy(size, out, c[THRESHOLD]);
  if (how.adaptive) add_mul(size, out, c[ADAPTATION], a);
}
