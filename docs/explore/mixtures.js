// Guidance of two modes, p(x|y) = N(μ, v) and p(x) = π N(μ, v) + (1−π) N(−μ, v).
//
//   joint tilt   ∝ p(x)^(1−γ) p(x|y)^γ, by the trapezoidal rule, which is exact to rounding for such densities
//   ODE          with w = v + τ falling from ∞ to v and x = w-noised:   dx / d log w = ½ (x − G),
//                G = γμ + (1−γ) μ tanh(μx/w + ½ log(π/(1−π)));
//                the density at x is that of the start z from which the ODE comes to x, times dz/dx
//
// The reverse SDE has no closed form here, and this module offers none.

const START = 1e10; // w/v at the start, in the place of ∞: a relative error of about START^(−3/2)
const STEPS = 400; // an error of about 1e-11
// Dormand and Prince, "A family of embedded Runge–Kutta formulae" (1980), fifth order.
const TABLEAU = [
  [1 / 5],
  [3 / 40, 9 / 40],
  [44 / 45, -56 / 15, 32 / 9],
  [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
  [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
  [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
];
const NODES = [0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1];

/** Return log p(x|y) and log p(x). */
export function logDensities(x, { mu, variance, prior }) {
  const log = (mean) => -((x - mean) ** 2) / (2 * variance) - Math.log(2 * Math.PI * variance) / 2;
  const [own, other] = [log(mu), log(-mu)];
  const [first, second] = [Math.log(prior) + own, Math.log1p(-prior) + other];
  const top = Math.max(first, second);
  return { cond: own, uncond: top + Math.log(Math.exp(first - top) + Math.exp(second - top)) };
}

/** Return points between which every density of the page lies, their spacing, and the joint tilt there. */
export function mixtureTilt(model, points = 1600) {
  const reach = 9 * Math.sqrt(model.variance);
  const edge = Math.min(-model.mu, (2 * model.scale - 1) * model.mu);
  const [low, high] = [edge - reach, model.mu + reach];
  const step = (high - low) / points;
  const x = Array.from({ length: points + 1 }, (_, i) => low + i * step);
  const logs = x.map((each) => {
    const { cond, uncond } = logDensities(each, model);
    return (1 - model.scale) * uncond + model.scale * cond;
  });
  const top = Math.max(...logs);
  const mass = logs.reduce((sum, log) => sum + Math.exp(log - top), 0) * step;
  const density = logs.map((log) => Math.exp(log - top) / mass);
  return { x, density, logZ: top + Math.log(mass), ...moments(x, density.map((each) => each * step)) };
}

/** Return the mean and variance of points with weights. */
function moments(x, weights) {
  const mean = x.reduce((sum, each, i) => sum + weights[i] * each, 0);
  return { mean, variance: x.reduce((sum, each, i) => sum + weights[i] * (each - mean) ** 2, 0) };
}

/** Return the drift of the ODE far away, c, where G is constant; x = c + √w y. */
function centre({ mu, prior, scale }) {
  return mu * (scale + (1 - scale) * (2 * prior - 1));
}

/**
 * Carry y along dy / d log w = ½ (c − G)/√w to or from far away; return its end and log of the derivative of the end by y.
 *
 * Steps are equal in t, with log w = log v + t² log START. The law of y far away is N(0, 1) to first order in 1/w.
 */
function carry(y, model, inwards, steps) {
  const { mu, variance, prior, scale } = model;
  const [from, h] = inwards ? [1, -1 / steps] : [0, 1 / steps];
  const [c, spread, shift, log] = [centre(model), (1 - scale) * mu, Math.log(prior / (1 - prior)) / 2, Math.log(START)];
  const bend = (2 * (1 - scale) * mu * mu * prior * (1 - prior)) / (variance * START);
  const [dy, dLog] = [new Float64Array(6), new Float64Array(6)]; // at the stages
  let logSlope = bend * (inwards ? 1 : -1);
  if (inwards) y *= Math.exp(bend);
  for (let i = 0; i < steps; i++) {
    for (let stage = 0; stage < 6; stage++) {
      const at = stage ? y + h * weighted(TABLEAU[stage - 1], dy) : y;
      const t = from + h * (i + NODES[stage]);
      const w = variance * Math.exp(log * t * t);
      const root = Math.sqrt(w);
      const tanh = Math.tanh((mu * (c + root * at)) / w + shift);
      dy[stage] = (log * t * spread * (2 * prior - 1 - tanh)) / root;
      dLog[stage] = (-log * t * spread * mu * (1 - tanh * tanh)) / w;
    }
    y += h * weighted(TABLEAU[5], dy);
    logSlope += h * weighted(TABLEAU[5], dLog);
  }
  return [inwards ? y : y * Math.exp(-bend), logSlope];
}

function weighted(weights, slopes) {
  let sum = 0;
  for (let j = 0; j < weights.length; j++) sum += weights[j] * slopes[j];
  return sum;
}

/** Return where the guided ODE carries z ~ N(0, 1), and log dx/dz there. */
export function transport(z, model, steps = STEPS) {
  const [y, logSlope] = carry(z, model, true, steps);
  return { x: centre(model) + Math.sqrt(model.variance) * y, logSlope: logSlope + Math.log(model.variance) / 2 };
}

/** Return the log density at x of the law in which the guided ODE ends: that of z, where x came from, plus log dz/dx. */
export function logDensityOde(x, model, steps = STEPS) {
  const [z, logSlope] = carry((x - centre(model)) / Math.sqrt(model.variance), model, false, steps);
  return -(z * z) / 2 - Math.log(2 * Math.PI * model.variance) / 2 + logSlope;
}

/** Return the law in which the guided ODE ends: equally spaced x, its densities, its mean and variance. */
export function mixtureOde(model, { points = 128, steps = STEPS } = {}) {
  const [low, high] = [transport(-8, model, steps).x, transport(8, model, steps).x];
  const step = (high - low) / points;
  const x = Array.from({ length: points + 1 }, (_, i) => low + i * step);
  const density = x.map((each) => Math.exp(logDensityOde(each, model, steps)));
  return { x, density, ...moments(x, density.map((each) => each * step)) };
}

/** Return KL(ODE ‖ joint tilt) in nats, from the law of `mixtureOde` and log Z of the tilt. */
export function mixtureDivergence({ x, density }, logZ, model) {
  const terms = x.map((each, i) => {
    const { cond, uncond } = logDensities(each, model);
    const gap = Math.log(density[i]) - (1 - model.scale) * uncond - model.scale * cond + logZ;
    return density[i] > 0 ? density[i] * gap : 0;
  });
  return Math.max(0, terms.reduce((sum, each) => sum + each, 0) * (x[1] - x[0]));
}
