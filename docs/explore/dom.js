// Elements, sliders and numbers of the page.

import { NUMBERS } from "./state.js";

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "rect", "line", "path", "circle", "text", "title"]);

/** Return an element with attributes (functions are listeners) and children, which are elements or plain texts. */
export function make(tag, attributes = {}, ...children) {
  const node = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Return a number with four significant digits, for people. */
export function show(value, digits = 4) {
  if (Number.isNaN(value) || value === null) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (Math.abs(value) < 5e-13) return "0";
  const size = Math.abs(value);
  const text = size >= 1e5 || size < 1e-4 ? value.toExponential(digits - 2) : Number(value.toPrecision(digits)).toString();
  return text.replace("-", "−").replace("e+", "e");
}

/** Write a number into an element, for people, and with all its digits as data-value. */
export function put(node, value, digits = 4) {
  node.textContent = show(value, digits);
  node.dataset.value = String(value);
}

/** Return a table cell with a number. */
export function numberCell(value, digits = 4) {
  const cell = make("td");
  put(cell, value, digits);
  return cell;
}

/** Return a labelled slider of a number of the state; `refresh(state)` moves it. */
export function slider(name, label, change, { id = name } = {}) {
  const [, min, max, step] = NUMBERS[name];
  const output = make("output", { for: `in-${id}` });
  const input = make("input", {
    type: "range", id: `in-${id}`, min, max, step, input: () => change({ [name]: Number(input.value) }),
  });
  const node = make("div", { class: "slider" }, make("label", { for: `in-${id}` }, label), output, input);
  const refresh = (state) => {
    input.value = state[name];
    put(output, state[name]);
  };
  return { node, refresh };
}

/** Return radio buttons of a choice of the state as [value, label] pairs. */
export function radios(name, legend, options, change) {
  const inputs = options.map(([value]) =>
    make("input", { type: "radio", name, value, id: `in-${name}-${value}`, change: () => change({ [name]: value }) }),
  );
  const labels = options.map(([value, label], i) => make("label", { for: `in-${name}-${value}` }, inputs[i], label));
  const node = make("fieldset", { class: "radios" }, make("legend", {}, legend), ...labels);
  const refresh = (state) => inputs.forEach((input) => (input.checked = input.value === state[name]));
  return { node, refresh };
}

/** Return a legend of laws, [class, name] pairs; of "curves" or "areas". */
export function legend(laws, kind = "areas") {
  const items = laws.map(([law, name]) => make("li", {}, make("i", { class: `key ${law}` }), name));
  return make("ul", { class: `legend ${kind}` }, ...items);
}

/** Return a table with a caption from its heads and rows of cells, in a box that scrolls. */
export function grid(caption, heads, rows) {
  const head = make("tr", {}, ...heads.map((each) => make("th", { scope: "col" }, each)));
  const table = make("table", {}, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, ...rows));
  return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, table);
}
