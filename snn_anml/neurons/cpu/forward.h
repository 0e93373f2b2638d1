// The forward scan: spikes and states of all steps.
#pragma once

#include "scans.h"

template <class F> struct Forward {
  Variant how;
  Steps<F> x, gate;  // currents (T or 1, N); gates (T or 1, n), which `pattern` expands
  Pattern pattern;
  Operands<F> operands;
  Steps<F> s, v, u, i, a;  // outputs (T, N); u is v with reset delay

  void block(int64_t b, int64_t size, Constants<F>& c, Scratch<F>& rows) const {
    F *now = rows[0], *m = rows[1], *g = rows[2], *d = rows[3], *th = rows[4], *left = rows[5];
    c.load(size, operands, b, how);
    const F *v_before = c[V0], *i_before = c[I0], *a_before = c[A0], *r = left;
    threshold_at(size, th, c, how, a_before);
    fire(size, left, v_before, th);
    if (gate && gate.steps == 1) expand(size, g, gate.data, b, pattern);
    for (int64_t t = 0; t < v.steps; ++t) {
      const F* current = x.at(t, b);
      if (gate) {
        if (gate.steps > 1) expand(size, g, gate.data + t * gate.neurons, b, pattern);
        mul(size, now, current, g);
        current = now;
      }
      if (how.filtered) {
        leak(size, i.at(t, b), c[ALPHA], i_before, current);
        current = i_before = i.at(t, b);
      }
      if (how.adaptive) {
        F* a_now = a.at(t, b);
        mul(size, a_now, c[RHO], a_before);
        add_mul(size, a_now, c.rest(), r);
        threshold_at(size, th, c, how, a_before = a_now);
      }
      F *s_now = s.at(t, b), *u_now = u.at(t, b), *v_now = v.at(t, b);
      if (how.reset == SUBTRACT) {
        leak_subtract_fire(size, s_now, u_now, c[BETA], v_before, current, r, th);
      } else {
        if (how.reset == ZERO) mul_not(size, m, r, v_before);
        leak(size, u_now, c[BETA], how.reset == ZERO ? m : v_before, current);
        fire(size, s_now, u_now, th);
      }
      v_before = v_now;
      if (how.delay) {
        r = s_now;
        continue;
      }
      difference(size, d, s_now, r);
      copy(size, v_now, u_now);
      if (how.reset == SUBTRACT) sub_mul(size, v_now, d, th);
      if (how.reset == ZERO) sub_mul(size, v_now, d, u_now);
      if (how.adaptive) {
        add_mul(size, a.at(t, b), c.rest(), d);
        threshold_at(size, th, c, how, a_before);
      }
      fire(size, left, v_now, th);
    }
  }

  void run(int64_t begin, int64_t end) const {
    Constants<F> c(end - begin);
    Scratch<F> rows(6, end - begin);
    for (int64_t b = begin; b < end; b += BLOCK) block(b, std::min(BLOCK, end - b), c, rows);
  }
};
