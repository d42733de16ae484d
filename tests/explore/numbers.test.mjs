// The modules of docs/explore against the numbers of the package, to 1e-10.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { diffused, gaussianDensity, gaussianDivergence, tilted } from "../../docs/explore/gaussians.js";
import { logDensities, logDensityOde, mixtureOde, mixtureTilt, transport } from "../../docs/explore/mixtures.js";
import { tableLaws } from "../../docs/explore/tables.js";

const golden = (name) => JSON.parse(readFileSync(new URL(`golden/${name}.json`, import.meta.url), "utf8"));

function close(found, expected, what, tolerance = 1e-10) {
  if (Array.isArray(expected)) {
    assert.equal(found.length, expected.length, what);
    expected.forEach((each, i) => close(found[i], each, `${what}[${i}]`, tolerance));
  } else if (expected === null) {
    assert.ok(!Number.isFinite(found), `${what}: ${found} is finite`);
  } else {
    const size = Math.max(Math.abs(expected), what.startsWith("p ") ? 0 : 1);
    assert.ok(Math.abs(found - expected) <= tolerance * size + 1e-300, `${what}: ${found} is not ${expected}`);
  }
}

const exp = (logs) => logs.map(Math.exp);

for (const { name, weights, shape, label, scale, temperature, expected } of golden("tables")) {
  test(`table ${name}, γ = ${scale}, τ = ${temperature}`, () => {
    const given = { weights: weights.map((row) => row.flat(Infinity)), shape, label, scale, temperature };
    if (expected === null) return assert.throws(() => tableLaws(given), RangeError);
    const found = tableLaws(given);
    for (const law of ["uncond", "cond", "joint", "sequential"]) close(exp(found[law]), expected[law], `p ${law}`);
    const reached = found.uncond.map((log, i) => (log === -Infinity ? null : expected.posterior[i]));
    reached.forEach((each, i) => each !== null && close(Math.exp(found.logPosterior[i]), each, `p posterior[${i}]`));
    close(found.logZ, expected.log_z, "log Z");
    close(found.logZt, expected.log_zt, "log Z_t");
    expected.log_path.forEach((each, i) => each !== null && close(found.logPath[i], each, `log path[${i}]`));
    close(found.kl, expected.kl_sequential_joint, "kl");
    close(found.klReverse, expected.kl_joint_sequential, "reverse kl");
    close(found.tv, expected.tv, "tv");
    for (const law of ["uncond", "cond", "joint", "sequential"]) {
      const key = law === "cond" ? "entropy_conditional" : `entropy_${law}`;
      close(found.entropies[law], expected[key], key);
    }
    close(found.logAcceptance, expected.log_acceptance, "log A");
  });
}

test("Gaussians", () => {
  for (const { tilt, diffused: expected, ...model } of golden("gaussians")) {
    const what = JSON.stringify(model);
    const [found, joint] = [diffused(model), tilted(model)];
    close(found.mean, expected.mean, `${what} mean`);
    close(found.variance / expected.variance, 1, `${what} variance`);
    if (tilt === null) assert.equal(joint, null, what);
    else {
      close([joint.mean, joint.variance], [tilt.mean, tilt.variance], `${what} tilt`);
      close(gaussianDivergence({ mean: model.mean, variance: model.a }, joint), tilt.kl, `${what} kl`);
    }
  }
});

test("two modes", () => {
  for (const { tilt, ode, ...model } of golden("mixtures")) {
    const what = JSON.stringify(model);
    const [joint, moved] = [mixtureTilt(model), mixtureOde(model)];
    close([joint.mean, joint.variance, joint.logZ], [tilt.mean, tilt.variance, tilt.log_z], `${what} tilt`);
    close([moved.mean, moved.variance], [ode.mean, ode.variance], `${what} ODE`);
    ode.z.forEach((z, i) => {
      const end = transport(z, model);
      close([end.x, end.logSlope], [ode.x[i], ode.log_slope[i]], `${what} z = ${z}`);
      const log = -(z * z) / 2 - Math.log(2 * Math.PI) / 2 - ode.log_slope[i]; // the change of variables
      close(logDensityOde(ode.x[i], model), log, `${what} log density at z = ${z}`, 1e-8); // the way back is ill-conditioned
    });
  }
});

test("densities have mass 1", () => {
  const model = { mu: 1.2, variance: 0.8, prior: 0.3, scale: 3 };
  const mass = (x, values) => values.reduce((sum, each) => sum + each, 0) * (x[1] - x[0]);
  const { x, density } = mixtureTilt(model);
  const laws = ["uncond", "cond"].map((law) => x.map((each) => Math.exp(logDensities(each, model)[law])));
  const gaussian = x.map((each) => gaussianDensity(each, { mean: 0.2, variance: 0.5 }));
  for (const values of [density, ...laws, gaussian]) close(mass(x, values), 1, "mass");
  const ode = mixtureOde(model);
  close(mass(ode.x, ode.density), 1, "mass of the ODE");
});
