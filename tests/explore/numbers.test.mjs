// The modules of docs/explore against the numbers of the package, to 1e-10.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { diffused, gaussianDensity, gaussianDivergence, tilted } from "../../docs/explore/gaussians.js";
import {
  logDensities, logDensityOde, mixtureDivergence, mixtureOde, mixtureTilt, transport,
} from "../../docs/explore/mixtures.js";
import { PRESETS } from "../../docs/explore/presets.js";
import { decode, encode, initial, NUMBERS, weightsOf } from "../../docs/explore/state.js";
import { tableLaws } from "../../docs/explore/tables.js";
import { ranks, readText, scores, tokenRows } from "../../docs/explore/text.js";

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
    close(mixtureDivergence(moved, joint.logZ, model), ode.kl, `${what} KL`);
    ode.z.forEach((z, i) => {
      const end = transport(z, model);
      close([end.x, end.logSlope], [ode.x[i], ode.log_slope[i]], `${what} z = ${z}`);
      const log = -(z * z) / 2 - Math.log(2 * Math.PI) / 2 - ode.log_slope[i]; // the change of variables
      // The way back is ill-conditioned.
      close(logDensityOde(ode.x[i], model), log, `${what} log density at z = ${z}`, 1e-8);
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

test("a state survives the URL, and a bad URL gives the defaults", () => {
  const w = Array(16).fill(7);
  const state = { ...initial(), tab: "gaussians", preset: "three", w, y: "0", g: -1.35, noise: 2.5, coherent: "1" };
  assert.deepEqual(decode(`#${encode(state)}`), state);
  assert.equal(encode(initial()), "");
  const preset = PRESETS[initial().preset];
  assert.deepEqual([initial().g, initial().y], [preset.scale, String(preset.label)], "the first preset is the start");
  for (const bad of ["#tab=none&g=NaN&w=1.2", "#w=1.2.3.4.5.6.7.1e9", "#w=-1.2.3.4.5.6.7.8", "#%E0%A4%A"]) {
    assert.deepEqual(decode(bad), initial(), bad);
  }
  assert.equal(decode("#g=99").g, NUMBERS.g[2]);
  assert.equal(decode("#g=-99").g, NUMBERS.g[1]);
  assert.deepEqual(weightsOf({ ...state, w: [...Array(16).keys()] })[1], [8, 9, 10, 11, 12, 13, 14, 15]);
});

test("the laws of presets are equal where their titles say so", () => {
  for (const { title, label, ...preset } of Object.values(PRESETS)) {
    const { kl } = tableLaws({ ...preset, label });
    if (/equal/i.test(title)) assert.ok(kl < 1e-14, `${title}: ${kl}`);
    else assert.ok(kl > 1e-3, `${title}: ${kl}`);
  }
});

const written = readFileSync(new URL("../../docs/explore/example.json", import.meta.url), "utf8");

test("scores of a text are the sums of its tokens", () => {
  const content = readText(written);
  const gains = content.texts.map((text) => scores(text).gain);
  assert.deepEqual(gains, gains.toSorted((one, other) => other - one));
  const text = { tokens: ["a", "b"], log_target: [-1, -2.5], log_normalizer: [0.5, 0.25], log_base: [-2, -3], log_z: 0.6 };
  close(Object.values(scores(text)), [-4.25, -4.1, -5, 0.75, 0.15], "scores");
  const [first, second] = tokenRows(text);
  close([first.logZ, first.logQ, first.logBase, first.path], [0.5, -1.5, -2, 0.5], "first");
  close([second.logZ, second.logQ, second.logBase, second.path], [0.25, -2.75, -3, 0.75], "second");
  const other = { ...text, log_target: [-1, -1] };
  assert.deepEqual(ranks([text, other, text], "joint"), [2, 1, 2]);
});

test("a malformed file is refused in one line", () => {
  const changed = (change) => {
    const content = JSON.parse(written);
    change(content);
    return JSON.stringify(content);
  };
  const cases = {
    "must be JSON": "{",
    "format": "[]",
    "version must be 1, got 2": changed((content) => (content.version = 2)),
    "prompt is missing": changed((content) => delete content.prompt),
    "kl_interval": changed((content) => (content.kl_interval = [0])),
    "at least one text": changed((content) => (content.texts = [])),
    "text 1: law must be": changed((content) => (content.texts[0].law = "x")),
    "text 2: tokens": changed((content) => (content.texts[1].tokens = [1])),
    "text 3: ended": changed((content) => delete content.texts[2].ended),
    "text 1: log_base must have 16 numbers": changed((content) => content.texts[0].log_base.pop()),
    "text 1: log_target must have": changed((content) => (content.texts[0].log_target[0] = null)),
  };
  for (const [message, source] of Object.entries(cases)) {
    const says = (error) => error instanceof TypeError && error.message.includes(message) && !error.message.includes("\n");
    assert.throws(() => readText(source), says, message);
  }
});
