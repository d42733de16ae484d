// The exact laws of a table p(y, x_1, …, x_T), in log space and double precision.
//
//   joint        p_γ(x) = (p(x)^(1−γ) p(x|y)^γ)^(1/τ) / Z
//   sequential   q_γ(x) = Π_t (p(x_t|x_<t)^(1−γ) p(x_t|x_<t,y)^γ)^(1/τ) / Z_t(x_<t)
//   identity     log p_γ(x) − log q_γ(x) = Σ_t log Z_t(x_<t) − log Z
//
// A law is an array of log-probabilities in row-major order, −∞ for probability 0. Zeros follow one policy: a law of weight 0
// is ignored; 0 in a law of positive weight, or in all of them, gives 0; any other 0 makes the tilt improper.

/** Return log Σ exp of some numbers; −∞ for none. */
export function logSumExp(values) {
  let top = -Infinity;
  for (const value of values) top = Math.max(top, value);
  if (!Number.isFinite(top)) return top;
  let sum = 0;
  for (const value of values) sum += Math.exp(value - top);
  return top + Math.log(sum);
}

/** Return log p − log q, and −∞ where p = 0. */
function divide(log, by) {
  return log === -Infinity ? -Infinity : log - by;
}

/** Return u·log p(x) + c·log p(x|y) with the policy for zeros; raise RangeError for an improper tilt. */
function tilt(logU, u, logC, c) {
  const terms = [[logU, u], [logC, c]].filter(([, weight]) => weight !== 0);
  if (terms.some(([log, weight]) => log === -Infinity && weight > 0)) return -Infinity;
  if (terms.every(([log]) => log === -Infinity)) return -Infinity;
  if (terms.some(([log]) => log === -Infinity)) {
    throw new RangeError("At a scale outside [0, 1] a law is 0 where the other is not, so the tilt has infinite mass.");
  }
  return terms.reduce((sum, [log, weight]) => sum + weight * log, 0);
}

/** Return the sums of a law over its last variable of `size` values, in log space. */
function behind(log, size) {
  return Array.from({ length: log.length / size }, (_, i) => logSumExp(log.slice(i * size, (i + 1) * size)));
}

/** Return log p(x_t | x_<t) for t = 1 … T, each over all prefixes x_≤t. */
function conditionals(log, shape) {
  const laws = [];
  let ahead = log;
  for (const size of [...shape].reverse()) {
    const before = behind(ahead, size);
    laws.unshift(ahead.map((value, i) => divide(value, before[Math.floor(i / size)])));
    ahead = before;
  }
  return laws;
}

/** Return the joint law and log Z for weights u and c. */
function jointLaw(uncond, cond, u, c) {
  const logits = uncond.map((log, i) => tilt(log, u, cond[i], c));
  const logZ = logSumExp(logits);
  if (logZ === -Infinity) throw new RangeError("The two laws share no x, so the joint law has no mass.");
  return { joint: logits.map((value) => value - logZ), logZ };
}

/** Return the sequential law, log Z_t of every prefix (arrays for t = 1 … T), and Σ_t log Z_t of every x. */
function sequentialLaw(uncond, cond, shape, u, c) {
  const [ofU, ofC] = [conditionals(uncond, shape), conditionals(cond, shape)];
  let [law, path] = [[0], [0]];
  const logZt = shape.map((size, t) => {
    const logits = ofU[t].map((log, i) => tilt(log, u, ofC[t][i], c));
    const logs = behind(logits, size);
    const parent = (i) => Math.floor(i / size);
    path = logits.map((_, i) => path[parent(i)] + logs[parent(i)]);
    law = logits.map((value, i) => law[parent(i)] + divide(value, logs[parent(i)]));
    return logs;
  });
  return { sequential: law, logZt, logPath: path };
}

/** Return Σ p·value under a law; values where p = 0 do not count. */
function expectation(log, value) {
  return log.reduce((sum, each, i) => (each === -Infinity ? sum : sum + Math.exp(each) * value(i)), 0);
}

/** Return KL(p ‖ q) in nats; rounding errors below 0 become 0. */
export function divergence(p, q) {
  return Math.max(0, expectation(p, (i) => p[i] - q[i]));
}

/** Return the entropy in nats. */
export function entropy(p) {
  return Math.max(0, -expectation(p, (i) => p[i]));
}

/** Return the total variation. */
export function totalVariation(p, q) {
  return p.reduce((sum, log, i) => sum + Math.abs(Math.exp(log) - Math.exp(q[i])), 0) / 2;
}

/**
 * Return log A, the log of the share of proposals that acceptance keeps (at τ = 1).
 *
 * γ ≥ 1: A = E_{p(x|y)}[ρ^(γ−1)]; 0 ≤ γ < 1: A = E_{p(x)}[ρ^γ], ρ = p(y|x). NaN for γ < 0, which has no bound.
 */
function logAcceptance(uncond, cond, logPosterior, scale) {
  if (scale < 0) return NaN;
  const [law, power] = scale >= 1 ? [cond, scale - 1] : [uncond, scale];
  return logSumExp(law.map((log, i) => (log === -Infinity || power === 0 ? log : log + power * logPosterior[i])));
}

/**
 * Return all laws of a table and what compares them.
 *
 * @param {number[][]} weights p(y, x) up to a factor, one row per label, row-major in x.
 * @param {number[]} shape V_1, …, V_T.
 * @param {number} label y.
 * @param {number} scale γ.
 * @param {number} temperature τ.
 * @throws {RangeError} no mass under the label, or an improper tilt.
 */
export function tableLaws({ weights, shape, label, scale, temperature = 1 }) {
  const total = weights.flat().reduce((sum, each) => sum + each, 0);
  const logs = weights.map((row) => row.map((each) => Math.log(each / total)));
  const logPrior = logs.map(logSumExp);
  if (!(total > 0) || logPrior[label] === -Infinity) throw new RangeError("Give the label y some mass: raise one of its bars.");
  const uncond = logs[0].map((_, i) => logSumExp(logs.map((row) => row[i])));
  const cond = logs[label].map((log) => divide(log, logPrior[label]));
  const logPosterior = logs[label].map((log, i) => divide(log, uncond[i]));
  const [u, c] = [(1 - scale) / temperature, scale / temperature];
  const { joint, logZ } = jointLaw(uncond, cond, u, c);
  const { sequential, logZt, logPath } = sequentialLaw(uncond, cond, shape, u, c);
  return {
    uncond, cond, joint, sequential, logZ, logZt, logPath, logPrior, logPosterior,
    kl: divergence(sequential, joint),
    klReverse: divergence(joint, sequential),
    tv: totalVariation(sequential, joint),
    entropies: { uncond: entropy(uncond), cond: entropy(cond), joint: entropy(joint), sequential: entropy(sequential) },
    logAcceptance: logAcceptance(uncond, cond, logPosterior, scale),
  };
}

/** Return the values of x at a row-major index. */
export function codes(index, shape) {
  const out = [];
  for (const size of [...shape].reverse()) {
    out.unshift(index % size);
    index = Math.floor(index / size);
  }
  return out;
}
