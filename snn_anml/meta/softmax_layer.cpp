// The softmax layer of softmax_layer.py: one drawing after another, all in one pass over its rows.
#include <algorithm>
#include <cmath>
#include <cstdint>

namespace {

float dot(const float* a, const float* b, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}

}  // namespace

// weights, first, second (rows, columns), moments null for SGD; error (rows) is scratch; inputs (drawings, columns);
// row 0 stands for `waiting` outputs where that is not 0; steps of Adam were made before.
extern "C" void learn(float* weights, float* first, float* second, float* error, const float* inputs,
                      const int64_t* own, int64_t drawings, int64_t rows, int64_t columns, int64_t waiting,
                      double learning_rate, int64_t steps, double beta1, double beta2, double eps) {
  for (int64_t d = 0; d < drawings; d++) {
    const float* x = inputs + d * columns;
    float most = -INFINITY, total = 0;
    for (int64_t r = 0; r < rows; r++) {
      error[r] = dot(weights + r * columns, x, columns);
      if (r == 0 && waiting) error[r] += std::log(float(waiting));
      most = std::max(most, error[r]);
    }
    for (int64_t r = 0; r < rows; r++) total += error[r] = std::exp(error[r] - most);
    for (int64_t r = 0; r < rows; r++) error[r] /= total;
    if (waiting) error[0] /= float(waiting);
    error[own[d]] -= 1;

    const double step = double(steps + d + 1), correction = std::sqrt(1 - std::pow(beta2, step));
    const float rate = first ? float(learning_rate * correction / (1 - std::pow(beta1, step))) : float(learning_rate);
    const float b1 = float(beta1), b2 = float(beta2), floor = float(eps * correction);
    for (int64_t r = 0; r < rows; r++) {
      const float e = error[r];
      float* w = weights + r * columns;
      if (!first) {
#pragma omp simd
        for (int64_t i = 0; i < columns; i++) w[i] -= rate * e * x[i];
        continue;
      }
      // m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps), with both corrections taken out of the division
      const float e1 = float(1 - beta1) * e, e2 = float(1 - beta2) * e * e;
      float* m = first + r * columns;
      float* v = second + r * columns;
#pragma omp simd
      for (int64_t i = 0; i < columns; i++) {
        m[i] = b1 * m[i] + e1 * x[i];
        v[i] = b2 * v[i] + e2 * (x[i] * x[i]);
        w[i] -= rate * (m[i] / (std::sqrt(v[i]) + floor));
      }
    }
  }
}
