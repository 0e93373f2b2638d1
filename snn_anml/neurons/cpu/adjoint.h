// The adjoint scan: gradients of the forward scan, from the last step to the first.
//
// With S, U, V, H, A', A, I the derivatives of the loss with respect to s_t, u_t, v_t, th_t, a'_t, a_t, i_t, with
// upstream gradients g, and d_t = s_t - r_t (0 with reset delay):
//
//     V_t  = gv_t + beta (1 - r_{t+1})^z U_{t+1}                     z = 1 for the reset to zero, otherwise 0
//     A_t  = ga_t + rho A'_{t+1}
//     S_t  = gs_t + (1 - rho) A'_{t+1} - R_{t+1}                     with reset delay
//          = gs_t + (1 - rho) A_t - R_t                              without
//     U_t  = gu_t + s'(u_t - th_t) S_t + (1 - d_t)^z V_t
//     H_t  = -s'(u_t - th_t) S_t - r_t U_t - d_t V_t                 the last two for the reset by subtraction
//     A'_t = A_t + b H_t
//     I_t  = gi_t + alpha I_{t+1} + U_t
//
// where R, the gradient through an undetached reset, is th U or beta v_{t-1} U with delay, th V or u V without. The
// gradient of x_t is I_t; those of the parameters are sums over t of alpha: i_{t-1} I, beta: (1 - r)^z v_{t-1} U,
// threshold: H, b: a' H, rho: (a_{t-1} - r) A' - d A. Without delay v and u differ, and both are outputs of the
// forward scan; with it u_t is v_t and V_t joins U_t.
#pragma once

#include "scans.h"

// What the forward scan left, and what comes from above; absent gradients are 0.
template <class F> struct Past {
  Steps<F> gs, gv, gu, gi, ga, v, u, i, a;
};

// r_t, d_t, th_t, a'_t and s'_t of one step of a block, from the saved states.
template <class F> struct Primal {
  F *r, *d, *th, *raised, *sigma, *free;

  void load(int64_t t, int64_t b, int64_t size, Constants<F>& c, const Variant& how, const Past<F>& past) {
    const F *v_before = t ? past.v.at(t - 1, b) : c[V0], *a_before = nullptr;
    if (how.adaptive) a_before = t ? past.a.at(t - 1, b) : c[A0];
    threshold_at(size, th, c, how, a_before);
    fire(size, r, v_before, th);
    if (how.adaptive) {
      if (how.delay) {
        copy(size, raised, past.a.at(t, b));
      } else {
        mul(size, raised, c[RHO], a_before);
        add_mul(size, raised, c.rest(), r);
      }
      threshold_at(size, th, c, how, raised);
    }
    const F* u = past.u.at(t, b);
    if (!how.delay) {
      fire(size, d, u, th);
      sub(size, d, r);
    }
    difference(size, free, u, th);
  }

  void load_derivative(int64_t size, const Variant& how) {
    with_surrogate(how.kind, F(how.slope), [&](auto surrogate) { EACH sigma[n] = surrogate.first(free[n]); });
  }
};

template <class F> struct Carry {
  F *S, *V, *A, *I;
};

template <class F> struct Adjoints {
  F *S, *U, *V, *H, *A1, *A, *I;
};

template <class F> void upstream(int64_t size, F* out, const Steps<F>& g, int64_t t, int64_t b) {
  if (g) copy(size, out, g.at(t, b));
  else fill(size, out, F(0));
}

// One step: from `carry` of step t + 1 to `to` of step t and `carry` for step t - 1.
template <class F>
void adjoint_step(
    int64_t t, int64_t b, int64_t size, Constants<F>& c, const Variant& how, const Past<F>& past, Primal<F>& primal,
    const Carry<F>& carry, const Adjoints<F>& to) {
  primal.load(t, b, size, c, how, past);
  primal.load_derivative(size, how);
  F *r = primal.r, *d = primal.d, *th = primal.th;
  const F *u = past.u.at(t, b), *v_before = t ? past.v.at(t - 1, b) : c[V0];
  upstream(size, to.S, past.gs, t, b);
  upstream(size, to.V, past.gv, t, b);
  add(size, to.V, carry.V);
  if (how.adaptive) {
    upstream(size, to.A, past.ga, t, b);
    add(size, to.A, carry.A);
  }
  if (how.delay) {
    add(size, to.S, carry.S);
  } else {
    if (how.adaptive) add_mul(size, to.S, c.rest(), to.A);
    if (!how.detach && how.reset == SUBTRACT) sub_mul(size, to.S, th, to.V);
    if (!how.detach && how.reset == ZERO) sub_mul(size, to.S, u, to.V);
  }
  mul(size, to.U, primal.sigma, to.S);
  fill(size, to.H, F(0));
  sub(size, to.H, to.U);
  if (!how.delay && how.reset == ZERO) {
    mul_not(size, primal.free, d, to.V);
    add(size, to.U, primal.free);
  } else {
    add(size, to.U, to.V);
  }
  if (past.gu) add(size, to.U, past.gu.at(t, b));
  if (how.reset == SUBTRACT) {
    sub_mul(size, to.H, r, to.U);
    if (!how.delay) sub_mul(size, to.H, d, to.V);
  }
  if (how.adaptive) {
    copy(size, to.A1, to.A);
    add_mul(size, to.A1, c[ADAPTATION], to.H);
    mul(size, carry.A, c[RHO], to.A1);
  }
  copy(size, to.I, to.U);
  if (how.filtered) {
    if (past.gi) add(size, to.I, past.gi.at(t, b));
    add(size, to.I, carry.I);
    mul(size, carry.I, c[ALPHA], to.I);
  }
  mul(size, carry.V, c[BETA], to.U);
  if (how.delay) {
    fill(size, carry.S, F(0));
    if (how.adaptive) mul(size, carry.S, c.rest(), to.A1);
    if (!how.detach && how.reset == SUBTRACT) sub_mul(size, carry.S, th, to.U);
    if (!how.detach && how.reset == ZERO) sub_mul(size, carry.S, carry.V, v_before);
  }
  if (how.reset == ZERO) mul_not(size, carry.V, r, carry.V);
}

template <class F> struct Adjoint {
  Variant how;
  Past<F> past;
  Steps<F> x, gate;  // of the forward scan; without a gate there is no need of x
  Pattern pattern;
  Operands<F> operands;
  int64_t plain;      // whether nothing is learned and nothing but the surrogate couples the steps
  Steps<F> dx;        // gradient of the currents (T or 1, N)
  Steps<F> dgate;     // of the gates (T or 1, N), not yet summed over what they were broadcast over; or absent
  Steps<F> dp;        // of the eight operands (8, N), likewise; or absent

  // Where nothing is learned and the reset, delayed, by subtraction or none, carries no gradient: from U of step
  // t + 1 to U of step t, which may be the same row.
  void plain_step(int64_t t, int64_t b, int64_t size, Constants<F>& c, const F* next_u, F* U) const {
    const F *beta = c[BETA], *th = c[THRESHOLD], *u = past.u.at(t, b);
    const F* gv = past.gv ? past.gv.at(t, b) : nullptr;
    if (!past.gs) {
      mul(size, U, beta, next_u);
      if (gv) add(size, U, gv);
      return;
    }
    const F* gs = past.gs.at(t, b);
    with_surrogate(how.kind, F(how.slope), [&](auto surrogate) {
      if (gv) EACH U[n] = beta[n] * next_u[n] + gs[n] * surrogate.first(u[n] - th[n]) + gv[n];
      else EACH U[n] = beta[n] * next_u[n] + gs[n] * surrogate.first(u[n] - th[n]);
    });
  }

  void parameters(int64_t t, int64_t b, int64_t size, Constants<F>& c, Primal<F>& primal, const Adjoints<F>& to) const {
    if (how.filtered) add_mul(size, dp.at(ALPHA, b), t ? past.i.at(t - 1, b) : c[I0], to.I);
    const F* v_before = t ? past.v.at(t - 1, b) : c[V0];
    if (how.reset == ZERO) {
      mul_not(size, primal.free, primal.r, v_before);
      v_before = primal.free;
    }
    add_mul(size, dp.at(BETA, b), v_before, to.U);
    add(size, dp.at(THRESHOLD, b), to.H);
    if (!how.adaptive) return;
    add_mul(size, dp.at(ADAPTATION, b), primal.raised, to.H);
    difference(size, primal.free, t ? past.a.at(t - 1, b) : c[A0], primal.r);
    add_mul(size, dp.at(RHO, b), primal.free, to.A1);
    if (!how.delay) sub_mul(size, dp.at(RHO, b), primal.d, to.A);
  }

  // Closes the scan: gradients of v_0, i_0, a_0. With delay r_1 is a spike like any other, of the initial membrane.
  void start(int64_t b, int64_t size, Constants<F>& c, Primal<F>& primal, const Carry<F>& carry) const {
    if (how.delay) {
      threshold_at(size, primal.th, c, how, c[A0]);
      difference(size, primal.free, c[V0], primal.th);
      primal.load_derivative(size, how);
      F* through = primal.sigma;
      mul(size, through, through, carry.S);
      add(size, carry.V, through);
      sub(size, dp.at(THRESHOLD, b), through);
      if (how.adaptive) {
        sub_mul(size, dp.at(ADAPTATION, b), c[A0], through);
        sub_mul(size, carry.A, c[ADAPTATION], through);
      }
    }
    copy(size, dp.at(V0, b), carry.V);
    copy(size, dp.at(I0, b), carry.I);
    copy(size, dp.at(A0, b), carry.A);
  }

  void block(int64_t b, int64_t size, Constants<F>& c, Scratch<F>& rows) const {
    const int64_t T = past.v.steps;
    const bool constant = x.steps < T && gate.steps < T;  // one product of current and gate for all steps
    Primal<F> primal{rows[0], rows[1], rows[2], rows[3], rows[4], rows[5]};
    Carry<F> carry{rows[6], rows[7], rows[8], rows[9]};
    Adjoints<F> to{rows[10], rows[11], rows[12], rows[13], rows[14], rows[15], rows[16]};
    F *g = rows[17], *total = rows[18];
    c.load(size, operands, b, how);
    for (int64_t row = 6; row < 10; ++row) fill(size, rows[row], F(0));
    fill(size, total, F(0));
    fill(size, to.U, F(0));
    fill(size, to.I, F(0));
    if (gate && gate.steps == 1) expand(size, g, gate.data, b, pattern);
    if (dx.steps < T) fill(size, dx.at(0, b), F(0));
    if (dgate && dgate.steps < T) fill(size, dgate.at(0, b), F(0));
    if (dp)
      for (int64_t row = 0; row < OPERANDS; ++row) fill(size, dp.at(row, b), F(0));
    if (plain && !how.filtered) to.I = to.U;
    const bool in_place = plain && !how.filtered && !constant && !gate;  // U of every step is what is asked for
    for (int64_t t = T - 1; t >= 0; --t) {
      if (plain) {
        const F* next_u = to.U;
        if (in_place) to.U = dx.at(t, b);
        plain_step(t, b, size, c, next_u, to.U);
        if (how.filtered) {
          leak(size, to.I, c[ALPHA], to.I, to.U);
          if (past.gi) add(size, to.I, past.gi.at(t, b));
        }
      } else {
        adjoint_step(t, b, size, c, how, past, primal, carry, to);
      }
      if (constant) {
        add(size, total, to.I);
      } else if (gate) {
        if (gate.steps > 1) expand(size, g, gate.data + t * gate.neurons, b, pattern);
        if (dx.steps == T) mul(size, dx.at(t, b), to.I, g);
        else add_mul(size, dx.at(0, b), to.I, g);
        if (dgate && dgate.steps == T) mul(size, dgate.at(t, b), to.I, x.at(t, b));
        else if (dgate) add_mul(size, dgate.at(0, b), to.I, x.at(t, b));
      } else if (!in_place) {
        copy(size, dx.at(t, b), to.I);
      }
      if (dp) parameters(t, b, size, c, primal, to);
    }
    if (constant && gate) {
      mul(size, dx.at(0, b), total, g);
      if (dgate) mul(size, dgate.at(0, b), total, x.at(0, b));
    } else if (constant) {
      copy(size, dx.at(0, b), total);
    }
    if (dp) start(b, size, c, primal, carry);
  }

  void run(int64_t begin, int64_t end) const {
    Constants<F> c(end - begin);
    Scratch<F> rows(19, end - begin);
    for (int64_t b = begin; b < end; b += BLOCK) block(b, std::min(BLOCK, end - b), c, rows);
  }
};
