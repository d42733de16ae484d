// The state of the page and its form in the URL: #tab=…&g=…, where a value that is the default is left out.

import { PRESETS } from "./presets.js";

/** Numbers of the state: default, least, largest, step. */
export const NUMBERS = {
  g: [4, -2, 12, 0.05],
  tau: [1, 0.1, 4, 0.05],
  gg: [2, 0, 12, 0.05],
  noise: [0.5, 0, 3, 0.05],
  m: [1, -3, 3, 0.05],
  a: [1, 0.1, 4, 0.05],
  b: [2, 0.1, 4, 0.05],
  mu: [1, 0.25, 2.5, 0.05],
  pi: [0.5, 0.1, 0.9, 0.01],
  text: [0, 0, 9999, 1],
  token: [0, 0, 9999, 1],
};
/** Choices of the state; the first is the default. */
export const CHOICES = {
  tab: ["table", "gaussians", "text"],
  preset: Object.keys(PRESETS),
  y: ["1", "0"],
  coherent: ["0", "1"],
  law: ["gaussian", "modes"],
};
export const LARGEST = 100; // of a weight

/** Return the state in which the page opens; `w` is null where the weights are those of the preset. */
export function initial() {
  const numbers = Object.entries(NUMBERS).map(([name, [value]]) => [name, value]);
  const choices = Object.entries(CHOICES).map(([name, [value]]) => [name, value]);
  return { ...Object.fromEntries([...numbers, ...choices]), w: null };
}

/** Return the weights of a state, one row per label. */
export function weightsOf(state) {
  const { weights } = PRESETS[state.preset];
  const size = weights[0].length;
  return state.w === null ? weights : weights.map((_, y) => state.w.slice(y * size, (y + 1) * size));
}

/** Return the part of the URL after #. */
export function encode(state) {
  const start = initial();
  const out = new URLSearchParams();
  for (const name of [...Object.keys(CHOICES), ...Object.keys(NUMBERS)]) {
    if (state[name] !== start[name]) out.set(name, String(state[name]));
  }
  if (state.w !== null) out.set("w", state.w.join("."));
  return out.toString();
}

/** Return the state of a URL; what it does not name, or what is out of range, is as in `initial`. */
export function decode(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const state = initial();
  for (const [name, values] of Object.entries(CHOICES)) {
    if (values.includes(given.get(name))) state[name] = given.get(name);
  }
  for (const [name, [, low, high]] of Object.entries(NUMBERS)) {
    const value = Number.parseFloat(given.get(name));
    if (Number.isFinite(value)) state[name] = Math.min(high, Math.max(low, value));
  }
  const weights = (given.get("w") ?? "").split(".").map(Number);
  const size = PRESETS[state.preset].weights.flat().length;
  const fits = (each) => Number.isInteger(each) && each >= 0 && each <= LARGEST;
  if (given.has("w") && weights.length === size && weights.every(fits)) state.w = weights;
  return state;
}
