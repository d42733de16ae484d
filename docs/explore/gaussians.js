// Guidance of a Gaussian, p(x|y) = N(m, a) and p(x) = N(0, b): every law is a Gaussian again, in closed form.
//
//   joint tilt   1/variance = γ/a + (1−γ)/b,   mean = variance · γm/a
//   diffusion    noise variance τ falls from ∞ to 0; stochasticity λ (0 the ODE, 1 the reverse SDE), q = 1 + λ²,
//                r(z) = z + (1−z) b/a with z = b/(b+τ):
//                mean     = γm (b/a) ∫_0^1 r(z)^(−1−qγ/2) d(z^(q/2))
//                variance = b ∫_0^1 r(z)^(−qγ) d(z^(λ²)),   which is a^γ b^(1−γ) for λ = 0

/**
 * Return ∫_0^1 g d(z^κ) from (z, 1−z) ↦ log g, by the tanh-sinh rule: to about 1e-13 for powers of affine functions.
 *
 * The rule is z = 1/(1 + exp(−π sinh t)), and κ z^κ (1−z) π cosh t is the weight of t.
 */
export function powerAverage(logG, kappa, step = 1 / 48) {
  if (kappa === 0) return Math.exp(logG(0, 1));
  const [first, last] = [-Math.asinh(42 / (Math.min(kappa, 1) * Math.PI)), Math.asinh(42 / Math.PI)];
  let sum = 0;
  for (let i = Math.floor(first / step); i * step < last; i++) {
    const t = i * step;
    const s = Math.PI * Math.sinh(t);
    const [logZ, logRest] = [-softplus(-s), -softplus(s)];
    sum += Math.exp(logG(Math.exp(logZ), Math.exp(logRest)) + kappa * logZ + logRest) * Math.cosh(t);
  }
  return sum * step * kappa * Math.PI;
}

/** Return log(1 + e^s) without overflow. */
export function softplus(s) {
  return Math.max(s, 0) + Math.log1p(Math.exp(-Math.abs(s)));
}

/** Return the mean and variance of the joint tilt, or null where it is improper. */
export function tilted({ mean, a, b, scale }) {
  const precision = scale / a + (1 - scale) / b;
  return precision > 0 ? { mean: (scale * mean) / (a * precision), variance: 1 / precision } : null;
}

/** Return the mean and variance in which guided diffusion of stochasticity λ ends. */
export function diffused({ mean, a, b, scale, noise }) {
  const q = 1 + noise ** 2;
  const power = (exponent) => (z, rest) => exponent * Math.log(z + (rest * b) / a);
  return {
    mean: scale * mean * (b / a) * powerAverage(power(-1 - (q * scale) / 2), q / 2),
    variance: b * powerAverage(power(-q * scale), noise ** 2),
  };
}

/** Return KL(p ‖ q) of Gaussians in nats. */
export function gaussianDivergence(p, q) {
  const ratio = p.variance / q.variance;
  return (ratio - 1 - Math.log(ratio) + (p.mean - q.mean) ** 2 / q.variance) / 2;
}

/** Return the density of N(mean, variance). */
export function gaussianDensity(x, { mean, variance }) {
  return Math.exp(-((x - mean) ** 2) / (2 * variance)) / Math.sqrt(2 * Math.PI * variance);
}
