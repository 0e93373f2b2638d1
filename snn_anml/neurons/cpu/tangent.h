// The tangent scan: derivative of the adjoint scan, from the first step to the last.
//
// It is the derivative of the forward scan in a direction, and at once the adjoint of the adjoint scan with respect to
// the upstream gradients. With a dot for what moves in the direction:
//
//     i._t  = alpha i._{t-1} + alpha. i_{t-1} + x._t
//     a'._t = rho a._{t-1} + rho. (a_{t-1} - r_t) + (1 - rho) r._t
//     th._t = threshold. + b a'._t + b. a'_t
//     u._t  = (1 - r_t)^z (beta v._{t-1} + beta. v_{t-1}) + i._t - r_t th._t - (th_t or beta v_{t-1}) r._t
//     s._t  = s'(u_t - th_t) (u._t - th._t)
//
// where r. is s. of the step before with reset delay and 0 without, and reaches u. where the reset is not detached.
// Without delay v. and a. follow by derivation of their equations. What is left of the second derivative comes from
// where states and parameters stand in these equations, each weighted with the adjoint of its left-hand side, and from
// s''; these are called bars.
#pragma once

#include "adjoint.h"

template <class F> struct Tangent {
  Variant how;
  Past<F> past;
  Operands<F> operands;
  Steps<F> x_dot;  // direction: of the gradient of the gated currents (T, N), or absent,
  Operands<F> operands_dot;  // and of those of the operands
  Steps<F> s_dot, v_dot, u_dot, i_dot, a_dot;  // gradients of gs, gv, gu, gi, ga (T, N), each absent if that is
  Steps<F> s_bar, v_bar, u_bar, i_bar, a_bar;  // of the saved spikes and states; s_bar may be absent
  Steps<F> dp;  // of the eight operands (8, N), not yet summed; absent only in the plain variant

  // r_1, with delay, is a spike of the initial membrane; its adjoint is what the carry of S ended with.
  void start(
      int64_t b, int64_t size, Constants<F>& c, Constants<F>& c_dot, Primal<F>& primal, const F* S, F* r_dot,
      F* th_dot) const {
    threshold_at(size, primal.th, c, how, c[A0]);
    difference(size, primal.free, c[V0], primal.th);
    copy(size, th_dot, c_dot[THRESHOLD]);
    if (how.adaptive) {
      add_mul(size, th_dot, c[ADAPTATION], c_dot[A0]);
      add_mul(size, th_dot, c_dot[ADAPTATION], c[A0]);
    }
    F *v0 = dp.at(V0, b), *threshold = dp.at(THRESHOLD, b), *adaptation = dp.at(ADAPTATION, b), *a0 = dp.at(A0, b);
    const F *x = primal.free, *v0_dot = c_dot[V0];
    with_surrogate(how.kind, F(how.slope), [&](auto surrogate) {
      EACH {
        const F rise = v0_dot[n] - th_dot[n], curved = surrogate.second(x[n]) * rise * S[n];
        r_dot[n] = surrogate.first(x[n]) * rise;
        v0[n] += curved;
        threshold[n] -= curved;
      }
      if (how.adaptive) {
        const F *a = c[A0], *strength = c[ADAPTATION], *a_dot = c_dot[A0], *strength_dot = c_dot[ADAPTATION];
        EACH {
          const F curved = surrogate.second(x[n]) * (v0_dot[n] - th_dot[n]) * S[n];
          const F sloped = surrogate.first(x[n]) * S[n];
          adaptation[n] -= sloped * a_dot[n] + curved * a[n];
          a0[n] -= sloped * strength_dot[n] + curved * strength[n];
        }
      }
    });
  }

  // What reached r_1 as a bar goes on to the initial membrane.
  void finish(int64_t b, int64_t size, Constants<F>& c, Primal<F>& primal, const F* r_bar) const {
    threshold_at(size, primal.th, c, how, c[A0]);
    difference(size, primal.free, c[V0], primal.th);
    primal.load_derivative(size, how);
    mul(size, primal.sigma, primal.sigma, r_bar);
    add(size, dp.at(V0, b), primal.sigma);
    sub(size, dp.at(THRESHOLD, b), primal.sigma);
    if (how.adaptive) {
      sub_mul(size, dp.at(ADAPTATION, b), primal.sigma, c[A0]);
      sub_mul(size, dp.at(A0, b), primal.sigma, c[ADAPTATION]);
    }
  }

  // The plain variant (`scan.Scan.plain`) with nothing learned: only the surrogate couples the steps, and no adjoint
  // but S, which is gs, is needed.
  void plain_block(int64_t b, int64_t size, Constants<F>& c, Constants<F>& c_dot, Scratch<F>& rows) const {
    F *zeros = rows[0], *i_now = rows[1], *v_now = rows[2];
    const F *alpha = c[ALPHA], *beta = c[BETA], *th = c[THRESHOLD];
    fill(size, zeros, F(0));
    copy(size, v_now, c_dot[V0]);
    if (how.filtered) copy(size, i_now, c_dot[I0]);
    with_surrogate(how.kind, F(how.slope), [&](auto surrogate) {
      for (int64_t t = 0; t < past.v.steps; ++t) {
        const F *x = x_dot ? x_dot.at(t, b) : zeros, *u = past.u.at(t, b), *gs = past.gs ? past.gs.at(t, b) : zeros;
        if (how.filtered) {
          leak(size, i_now, alpha, i_now, x);
          if (i_dot) copy(size, i_dot.at(t, b), i_now);
          if (i_bar) fill(size, i_bar.at(t, b), F(0));
          x = i_now;
        }
        F* bar = v_bar.at(t, b);
        if (s_dot) {
          F* s = s_dot.at(t, b);
          EACH {
            const F moved = beta[n] * v_now[n] + x[n], over = u[n] - th[n];
            v_now[n] = moved;
            s[n] = surrogate.first(over) * moved;
            bar[n] = surrogate.second(over) * moved * gs[n];
          }
        } else {
          EACH v_now[n] = beta[n] * v_now[n] + x[n];
          fill(size, bar, F(0));
        }
        if (v_dot) copy(size, v_dot.at(t, b), v_now);
      }
    });
  }

  void block(int64_t b, int64_t size, Constants<F>& c, Constants<F>& c_dot, Scratch<F>& rows, Scratch<F>& store) const {
    const int64_t T = past.v.steps;
    Primal<F> primal{rows[0], rows[1], rows[2], rows[3], rows[4], rows[5]};
    Carry<F> carry{rows[6], rows[7], rows[8], rows[9]};
    F *curvature = rows[10], *r_dot = rows[11], *th_dot = rows[12], *now_dot = rows[13], *rise = rows[14];
    F *i_now = rows[15], *a_now = rows[16], *u_now = rows[17], *v_now = rows[18], *s_now = rows[19];
    F *r_bar = rows[20], *th_bar = rows[21], *raised_bar = rows[22], *m = rows[23], *through = rows[24];
    F *r = primal.r, *d = primal.d, *th = primal.th, *raised = primal.raised, *free = primal.free;
    auto adjoints = [&](int64_t t) {
      F* row[7];
      for (int64_t k = 0; k < 7; ++k) row[k] = store[7 * t + k];
      return Adjoints<F>{row[0], row[1], row[2], row[3], row[4], row[5], row[6]};
    };
    c.load(size, operands, b, how);
    c_dot.load(size, operands_dot, b, how);
    if (!dp) return plain_block(b, size, c, c_dot, rows);
    for (int64_t row = 6; row < 10; ++row) fill(size, rows[row], F(0));
    for (int64_t t = T - 1; t >= 0; --t) adjoint_step(t, b, size, c, how, past, primal, carry, adjoints(t));
    for (int64_t row = 0; row < OPERANDS; ++row) fill(size, dp.at(row, b), F(0));
    fill(size, r_bar, F(0));
    fill(size, r_dot, F(0));
    if (how.delay) start(b, size, c, c_dot, primal, carry.S, r_dot, th_dot);
    const F *v_dot_before = c_dot[V0], *i_dot_before = c_dot[I0], *a_dot_before = c_dot[A0];
    for (int64_t t = 0; t < T; ++t) {
      const Adjoints<F> adj = adjoints(t);
      const F* v_before = t ? past.v.at(t - 1, b) : c[V0];
      F* v_bar_before = t ? v_bar.at(t - 1, b) : dp.at(V0, b);
      F* s_bar_before = t && how.delay && s_bar ? s_bar.at(t - 1, b) : r_bar;
      const F *u = past.u.at(t, b), *a_before = nullptr;
      F* a_bar_before = nullptr;
      primal.load(t, b, size, c, how, past);
      upstream(size, now_dot, x_dot, t, b);
      fill(size, th_bar, F(0));
      if (how.filtered) {
        const F* i_before = t ? past.i.at(t - 1, b) : c[I0];
        add_mul(size, now_dot, c[ALPHA], i_dot_before);
        add_mul(size, now_dot, c_dot[ALPHA], i_before);
        add_mul(size, dp.at(ALPHA, b), adj.I, i_dot_before);
        add_mul(size, t ? i_bar.at(t - 1, b) : dp.at(I0, b), adj.I, c_dot[ALPHA]);
        copy(size, i_now, now_dot);
        if (i_dot) copy(size, i_dot.at(t, b), i_now);
        fill(size, i_bar.at(t, b), F(0));
        i_dot_before = i_now;
      }
      copy(size, th_dot, c_dot[THRESHOLD]);
      if (how.adaptive) {
        a_before = t ? past.a.at(t - 1, b) : c[A0];
        a_bar_before = t ? a_bar.at(t - 1, b) : dp.at(A0, b);
        difference(size, rise, a_dot_before, r_dot);
        add_mul(size, dp.at(RHO, b), adj.A1, rise);
        add_mul(size, a_bar_before, adj.A1, c_dot[RHO]);
        if (how.delay) sub_mul(size, s_bar_before, adj.A1, c_dot[RHO]);
        mul(size, a_now, c[RHO], a_dot_before);
        add_mul(size, a_now, c.rest(), r_dot);
        difference(size, rise, a_before, r);
        add_mul(size, a_now, c_dot[RHO], rise);
        add_mul(size, th_dot, c[ADAPTATION], a_now);
        add_mul(size, th_dot, c_dot[ADAPTATION], raised);
        add_mul(size, dp.at(ADAPTATION, b), adj.H, a_now);
        mul(size, raised_bar, adj.H, c_dot[ADAPTATION]);
      }
      // The membrane: u. in u_now.
      if (how.reset == ZERO) {
        mul_not(size, m, r, v_before);
        mul_not(size, through, r, v_dot_before);
        mul_not(size, free, r, adj.U);
        mul(size, free, free, c_dot[BETA]);
      } else {
        copy(size, m, v_before);
        copy(size, through, v_dot_before);
        mul(size, free, adj.U, c_dot[BETA]);
      }
      add(size, v_bar_before, free);
      copy(size, u_now, now_dot);
      add_mul(size, u_now, c[BETA], through);
      add_mul(size, u_now, c_dot[BETA], m);
      add_mul(size, dp.at(BETA, b), adj.U, through);
      if (how.reset == SUBTRACT) sub_mul(size, u_now, r, th_dot);
      if (how.delay && !how.detach) {
        mul(size, free, adj.U, r_dot);
        if (how.reset == SUBTRACT) {
          sub_mul(size, u_now, th, r_dot);
          sub_mul(size, s_bar_before, adj.U, th_dot);
          sub(size, th_bar, free);
        } else {
          mul(size, m, c[BETA], v_before);
          sub_mul(size, u_now, m, r_dot);
          sub_mul(size, dp.at(BETA, b), free, v_before);
          sub_mul(size, v_bar_before, free, c[BETA]);
          mul(size, m, c[BETA], v_dot_before);
          add_mul(size, m, c_dot[BETA], v_before);
          sub_mul(size, s_bar_before, adj.U, m);
        }
      }
      // The spike.
      difference(size, rise, u_now, th_dot);
      difference(size, free, u, th);
      const F* S = adj.S;
      with_surrogate(how.kind, F(how.slope), [&](auto surrogate) {
        EACH s_now[n] = surrogate.first(free[n]) * rise[n];
        EACH curvature[n] = surrogate.second(free[n]) * rise[n] * S[n];
      });
      if (s_dot) copy(size, s_dot.at(t, b), s_now);
      sub(size, th_bar, curvature);
      copy(size, v_now, u_now);
      if (how.delay) {
        copy(size, v_bar.at(t, b), curvature);
        if (s_bar) fill(size, s_bar.at(t, b), F(0));
        copy(size, r_dot, s_now);
      } else {
        F *s_bar_now = s_bar ? s_bar.at(t, b) : r_bar, *u_bar_now = u_bar.at(t, b);
        if (u_dot) copy(size, u_dot.at(t, b), u_now);
        fill(size, v_bar.at(t, b), F(0));
        fill(size, s_bar_now, F(0));
        copy(size, u_bar_now, curvature);
        if (how.reset == SUBTRACT) sub_mul(size, v_now, d, th_dot);
        if (how.reset == ZERO) mul_not(size, v_now, d, u_now);
        if (!how.detach && how.reset == SUBTRACT) {
          sub_mul(size, v_now, th, s_now);
          sub_mul(size, s_bar_now, adj.V, th_dot);
          sub_mul(size, th_bar, adj.V, s_now);
        }
        if (!how.detach && how.reset == ZERO) {
          sub_mul(size, v_now, u, s_now);
          sub_mul(size, s_bar_now, adj.V, u_now);
          sub_mul(size, u_bar_now, adj.V, s_now);
        }
        if (how.adaptive) {
          add_mul(size, a_now, c.rest(), s_now);
          sub_mul(size, a_now, c_dot[RHO], d);
          sub_mul(size, dp.at(RHO, b), adj.A, s_now);
          sub_mul(size, s_bar_now, adj.A, c_dot[RHO]);
        }
      }
      if (v_dot) copy(size, v_dot.at(t, b), v_now);
      v_dot_before = v_now;
      add(size, dp.at(THRESHOLD, b), th_bar);
      if (!how.adaptive) continue;
      if (a_dot) copy(size, a_dot.at(t, b), a_now);
      a_dot_before = a_now;
      add_mul(size, dp.at(ADAPTATION, b), raised, th_bar);
      add_mul(size, raised_bar, c[ADAPTATION], th_bar);
      if (how.delay) {
        copy(size, a_bar.at(t, b), raised_bar);
      } else {
        fill(size, a_bar.at(t, b), F(0));
        add_mul(size, a_bar_before, c[RHO], raised_bar);
        difference(size, rise, a_before, r);
        add_mul(size, dp.at(RHO, b), rise, raised_bar);
      }
    }
    if (how.delay) finish(b, size, c, primal, r_bar);
  }

  void run(int64_t begin, int64_t end) const {
    Constants<F> c(end - begin), c_dot(end - begin);
    Scratch<F> rows(25, end - begin), store(dp ? 7 * past.v.steps : 0, end - begin);
    for (int64_t b = begin; b < end; b += BLOCK) block(b, std::min(BLOCK, end - b), c, c_dot, rows, store);
  }
};
