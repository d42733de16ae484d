// The tab of guided diffusion on Gaussians and on two modes.

import { lines } from "./charts.js";
import { grid, legend, make, numberCell, put, radios, show, slider } from "./dom.js";
import { diffused, gaussianDensity, gaussianDivergence, tilted } from "./gaussians.js";
import { logDensities, mixtureDivergence, mixtureOde, mixtureTilt } from "./mixtures.js";

const SCALES = Array.from({ length: 41 }, (_, i) => (i * 12) / 40);
const TITLES = {
  uncond: "p(x)",
  cond: "p(x|y)",
  joint: "joint tilt",
  ode: "ODE, λ = 0",
  sde: "SDE, λ = 1",
  noise: "your λ",
};
const IMPROPER =
  "The joint tilt is improper here: γ/a + (1−γ)/b is not positive, so its mass is infinite. The samplers answer all the same.";
const OF_MODES = ["uncond", "cond", "joint", "ode"];

/** Build the tab; return a function that shows a state. */
export function gaussianTab(panel, change) {
  const find = (name) => panel.querySelector(`[data-part="${name}"]`);
  const law = radios("law", "data", [["gaussian", "one Gaussian"], ["modes", "two modes"]], change);
  const gamma = slider("gg", "scale γ", change);
  const own = {
    gaussian: [
      slider("noise", "stochasticity λ", change),
      slider("m", "mean m of p(x|y)", change),
      slider("a", "variance a of p(x|y)", change),
      slider("b", "variance b of p(x)", change),
    ],
    modes: [slider("mu", "modes at ±μ", change), slider("pi", "weight π of the mode +μ", change)],
  };
  const stack = (sliders) => make("div", { class: "stack" }, ...sliders.map(({ node }) => node));
  const groups = Object.entries(own).map(([name, each]) => [name, stack(each)]);
  find("controls").append(law.node, gamma.node, ...groups.map(([, node]) => node));
  let curves = { key: "" };

  return (state) => {
    for (const each of [law, gamma, ...own.gaussian, ...own.modes]) each.refresh(state);
    for (const [name, node] of groups) node.hidden = name !== state.law;
    for (const name of Object.keys(own)) find(`${name}-text`).hidden = name !== state.law;
    const family = state.law === "gaussian" ? gaussianFamily(state) : modeFamily(state);
    const shown = family.laws(state.gg);
    if (curves.key !== family.key) curves = { key: family.key, points: SCALES.map((scale) => family.moments(scale)) };
    showFamily(find, state, family, shown, curves.points);
  };
}

/** Return the laws of one Gaussian at a scale, each with mean, variance and density, and null for an improper tilt. */
function gaussianFamily({ m: mean, a, b, noise }) {
  const moments = (scale) => {
    const given = { mean, a, b, scale };
    const all = {
      joint: tilted(given),
      ode: diffused({ ...given, noise: 0 }),
      sde: diffused({ ...given, noise: 1 }),
      noise: diffused({ ...given, noise }),
    };
    return { uncond: { mean: 0, variance: b }, cond: { mean, variance: a }, ...all };
  };
  const laws = (scale) => {
    const found = moments(scale);
    const kl = (each) => (found.joint && each ? gaussianDivergence(each, found.joint) : NaN);
    const whole = (each) => each && { ...each, kl: kl(each), density: onAxis(each) };
    return Object.fromEntries(Object.entries(found).map(([name, each]) => [name, whole(each)]));
  };
  return { key: JSON.stringify([mean, a, b, noise]), names: Object.keys(TITLES), moments, laws };
}

function onAxis(law) {
  const reach = 6 * Math.sqrt(law.variance);
  const x = Array.from({ length: 161 }, (_, i) => law.mean - reach + (reach * i) / 80);
  return { x, y: x.map((each) => gaussianDensity(each, law)) };
}

/** Return the laws of two modes at a scale; the moments against γ take fewer steps. */
function modeFamily({ mu, pi: prior }) {
  const model = (scale) => ({ mu, variance: 1, prior, scale });
  const [p, mean] = [{ mean: mu, variance: 1 }, mu * (2 * prior - 1)];
  const uncond = { mean, variance: 1 + mu * mu - mean * mean };
  const moments = (scale) => {
    const ode = mixtureOde(model(scale), { points: 100, steps: 60 });
    return { uncond, cond: p, joint: mixtureTilt(model(scale), 400), ode };
  };
  const laws = (scale) => {
    const [joint, ode] = [mixtureTilt(model(scale)), mixtureOde(model(scale))];
    const kl = { ode: mixtureDivergence(ode, joint.logZ, model(scale)), joint: 0 };
    const plain = (law) => joint.x.map((x) => Math.exp(logDensities(x, model(scale))[law]));
    return {
      uncond: { ...uncond, kl: NaN, density: { x: joint.x, y: plain("uncond") } },
      cond: { ...p, kl: NaN, density: { x: joint.x, y: plain("cond") } },
      joint: { ...joint, kl: 0, density: { x: joint.x, y: joint.density } },
      ode: { ...ode, kl: kl.ode, density: { x: ode.x, y: ode.density } },
    };
  };
  return { key: JSON.stringify([mu, prior]), names: OF_MODES, moments, laws };
}

function showFamily(find, state, { names }, laws, curves) {
  put(find("kl"), laws.ode.kl);
  find("sentence").textContent = sentence(laws);
  find("error").textContent = laws.joint ? "" : IMPROPER;
  const title = (name) => (name === "noise" ? `λ = ${show(state.noise)}` : TITLES[name]);
  find("legend").replaceChildren(legend(names.map((name) => [name, title(name)]), "curves"));
  find("density").replaceChildren(densities(find("density").clientWidth || 340, names, laws));
  for (const quantity of ["mean", "variance"]) {
    const chart = against(find(quantity).clientWidth || 340, quantity, names, curves, state.gg);
    find(quantity).replaceChildren(chart);
  }
  const rows = names.map((name) => {
    const law = laws[name] ?? { mean: NaN, variance: NaN, kl: NaN };
    const numbers = [law.mean, law.variance, law.kl].map((value) => numberCell(value, 6));
    return make("tr", {}, make("th", { scope: "row" }, title(name)), ...numbers);
  });
  const caption = "Mean, variance, and KL(law ‖ joint tilt) in nats";
  find("numbers").replaceChildren(grid(caption, ["law", "mean", "variance", "KL"], rows));
}

/** Return the chart of the densities, over 3.6 standard deviations to each side. */
function densities(width, names, laws) {
  const present = names.filter((name) => laws[name]);
  const reach = (name, side) => side * laws[name].mean + 3.6 * Math.sqrt(laws[name].variance);
  const [low, high] = [-1, 1].map((side) => side * Math.max(...present.map((name) => reach(name, side))));
  const series = present.map((name) => ({ law: name, name: TITLES[name], ...laws[name].density }));
  return lines({ width, series, range: [low, high], name: "Densities of x; mean and variance are in the table below" });
}

/** Return the chart of a quantity against γ, with a mark at the scale. */
function against(width, quantity, names, curves, scale) {
  const series = names.filter((name) => name !== "uncond" && name !== "cond").map((name) => ({
    law: name, name: TITLES[name], x: SCALES, y: curves.map((point) => point[name]?.[quantity] ?? NaN),
  }));
  const name = `The ${quantity} of every law against γ`;
  return lines({ width, height: 190, series, range: [0, 12], ...bounds(series, quantity), mark: scale, name });
}

/** Return the ends of the vertical axis: those of the samplers, which the tilt may leave where it is nearly improper. */
function bounds(series, quantity) {
  const values = series.filter(({ law }) => law !== "joint").flatMap(({ y }) => y).filter(Number.isFinite);
  const low = Math.min(0, ...values);
  const high = Math.max(...values, quantity === "mean" && low < 0 ? 0 : 0.1);
  return { low, high: high + 0.06 * (high - low) };
}

function sentence({ joint, ode }) {
  const [mean, variance] = [show(ode.mean, 3), show(ode.variance, 3)];
  if (!joint) return `The ODE ends in mean ${mean} and variance ${variance}, although no joint law exists.`;
  const ratio = ode.variance / joint.variance;
  const equal = Math.abs(ratio - 1) < 1e-6 && Math.abs(ode.mean - joint.mean) < 1e-6;
  if (equal) return "At this scale the ODE draws the joint tilt.";
  const size = ratio < 1 ? `${show(100 * (1 - ratio), 2)} % smaller` : `${show(100 * (ratio - 1), 2)} % larger`;
  const other = show(joint.mean, 3);
  return `The ODE’s variance is ${size} than that of the joint tilt, and its mean is ${mean} instead of ${other}.`;
}
