// The tab of a small table: bars to drag, and its laws side by side.

import { bars, draggable } from "./charts.js";
import { grid, legend, make, numberCell, put, radios, show, slider } from "./dom.js";
import { PRESETS } from "./presets.js";
import { LARGEST, weightsOf } from "./state.js";
import { codes, tableLaws } from "./tables.js";

export const LAWS_OF_TABLE = [
  ["uncond", "p(x)"],
  ["cond", "p(x|y)"],
  ["sequential", "sequential"],
  ["joint", "joint"],
];

/** Build the tab; return a function that shows a state. */
export function tableTab(panel, change) {
  const find = (name) => panel.querySelector(`[data-part="${name}"]`);
  const options = Object.entries(PRESETS).map(([value, { title }]) => make("option", { value }, title));
  const select = make("select", { id: "in-preset", change: () => change(presetState(select.value)) }, ...options);
  const reset = make("button", { type: "button", id: "reset-table", click: () => change(presetState(select.value)) }, "Reset");
  const [gamma, tau] = [slider("g", "scale γ", change), slider("tau", "temperature τ", change)];
  const label = radios("y", "guide towards", [["1", "y = 1"], ["0", "y = 0"]], change);
  const coherent = make("input", {
    type: "checkbox", role: "switch", id: "in-coherent", change: () => change({ coherent: coherent.checked ? "1" : "0" }),
  });
  find("controls").append(
    make("div", { class: "field" }, make("label", { for: "in-preset" }, "table"), make("div", { class: "row" }, select, reset)),
    gamma.node,
    tau.node,
    label.node,
    make("label", { class: "switch", for: "in-coherent" }, coherent, "show acceptance (the coherent reading)"),
  );
  find("legend").append(legend(LAWS_OF_TABLE));
  let chart = { key: "" };

  return (state) => {
    const [preset, weights] = [PRESETS[state.preset], weightsOf(state)];
    const names = weights[0].map((_, i) => codes(i, preset.shape).join(""));
    const width = find("weights").clientWidth || 340;
    const set = (y, i, value) => {
      const w = weightsOf(chart.state).flat();
      w[y * names.length + i] = value;
      change({ w });
    };
    if (chart.key !== `${state.preset} ${width}`) {
      const series = weights.map((_, y) => ({ law: `label${y}`, name: `y = ${y}` }));
      chart = { key: `${state.preset} ${width}`, ...draggable({ width, groups: names, series, largest: LARGEST, set }) };
      find("weights").replaceChildren(chart.svg);
    }
    chart.state = state;
    chart.refresh(weights);
    select.value = state.preset;
    find("note").textContent = preset.note;
    for (const each of [gamma, tau, label]) each.refresh(state);
    coherent.checked = state.coherent === "1";
    try {
      const laws = tableLaws({ weights, shape: preset.shape, label: Number(state.y), scale: state.g, temperature: state.tau });
      for (const name of ["results", "tables"]) find(name).hidden = false;
      find("error").textContent = "";
      showLaws(find, state, laws, names, preset.shape);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      for (const name of ["results", "tables"]) find(name).hidden = true;
      find("error").textContent = error.message;
      put(find("kl"), NaN);
      find("sentence").textContent = "There is no joint law here.";
    }
  };
}

function presetState(preset) {
  const { label, scale } = PRESETS[preset];
  return { preset, w: null, y: String(label), g: scale, tau: 1 };
}

function showLaws(find, state, laws, names, shape) {
  put(find("kl"), laws.kl);
  find("sentence").textContent = sentenceOf(laws, names);
  const series = LAWS_OF_TABLE.map(([law, name]) => ({ law, name, values: laws[law].map(Math.exp) }));
  const width = find("laws").clientWidth || 340;
  const name = "The four laws of x, as bars; the numbers are in the table below";
  find("laws").replaceChildren(bars({ width, groups: names, series, name }));
  find("numbers").replaceChildren(lawTable(state, laws, names));
  find("prefixes").replaceChildren(prefixTable(laws, shape));
  find("summary").replaceChildren(summaryTable(laws));
  find("coherent").hidden = state.coherent !== "1";
  put(find("acceptance"), Math.exp(laws.logAcceptance));
  find("acceptance-note").replaceChildren(...acceptanceNote(state, laws));
}

function sentenceOf(laws, names) {
  if (laws.kl < 1e-12) return "The two laws are equal: Π Zₜ is the same for every x.";
  const gaps = names.map((_, i) => Math.exp(laws.joint[i]) - Math.exp(laws.sequential[i]));
  const i = gaps.reduce((best, gap, k) => (Math.abs(gap) > Math.abs(gaps[best]) ? k : best), 0);
  const [joint, sequential] = [laws.joint, laws.sequential].map((law) => show(Math.exp(law[i]), 3));
  return `Sequential guidance gives x = ${names[i]} the probability ${sequential}; the joint law gives it ${joint}.`;
}

function lawTable(state, laws, names) {
  const more = state.coherent === "1" ? ["ρ = p(y|x)"] : [];
  const rows = names.map((name, i) => {
    const values = [...LAWS_OF_TABLE.map(([law]) => Math.exp(laws[law][i])), Math.exp(laws.logPath[i] - laws.logZ)];
    const cells = [...values, ...(more.length ? [Math.exp(laws.logPosterior[i])] : [])].map((value) => numberCell(value, 3));
    return make("tr", {}, make("th", { scope: "row" }, name), ...cells);
  });
  return grid("Probabilities of every x", ["x", ...LAWS_OF_TABLE.map(([, name]) => name), "Π Zₜ / Z", ...more], rows);
}

function prefixTable(laws, shape) {
  const rows = laws.logZt.flatMap((logs, t) =>
    logs.map((log, i) => {
      const prefix = codes(i, shape.slice(0, t)).join("") || "none";
      const cells = [make("td", {}, `Z${"₁₂₃"[t]}`), numberCell(Math.exp(log)), numberCell(log)];
      return make("tr", {}, make("th", { scope: "row" }, prefix), ...cells);
    }),
  );
  return grid("The normalizer of every prefix", ["prefix", "", "Zₜ", "log Zₜ"], rows);
}

function summaryTable(laws) {
  const numbers = [
    ["log Z", laws.logZ],
    ["KL(sequential ‖ joint)", laws.kl],
    ["KL(joint ‖ sequential)", laws.klReverse],
    ["total variation", laws.tv],
    ["entropy of p(x)", laws.entropies.uncond],
    ["entropy of p(x|y)", laws.entropies.cond],
    ["entropy, sequential", laws.entropies.sequential],
    ["entropy, joint", laws.entropies.joint],
  ];
  const rows = numbers.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), numberCell(value, 5)));
  return grid("In nats, but for the total variation", ["quantity", "value"], rows);
}

function acceptanceNote({ tau, g }, { logAcceptance }) {
  if (tau !== 1) return ["A is that of τ = 1; with a temperature the joint law is not drawn by acceptance."];
  if (g < 0) return ["Below γ = 0 the ratio p(x|y)/p(x) has no lower bound, so nothing can be accepted."];
  const [proposal, power] = g >= 1 ? ["p(x|y)", "γ−1"] : ["p(x)", "γ"];
  const bound = `KL(joint ‖ ${proposal}) ≤ −log A = ${show(-logAcceptance)} nats`;
  const rest = `: this share is kept, and it follows the joint law exactly. So ${bound}.`;
  return [`Draw x from ${proposal}, keep it with probability ρ`, make("sup", {}, power), rest];
}
