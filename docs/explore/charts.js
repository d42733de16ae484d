// Charts in SVG: bars beside each other, bars that can be dragged, and lines. Numbers in, elements out.

import { make, show } from "./dom.js";

const EDGE = { left: 38, right: 10, top: 14, bottom: 26 };

/** Return a round number for the top of an axis. */
function roundUp(value) {
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find((each) => each * size >= value * 0.999) * size;
}

/** Return round numbers from low to high, about `count` of them. */
function ticks(low, high, count = 4) {
  const raw = (high - low) / count;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((each) => each * size >= raw * 0.999) * size;
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

/** Return the frame of a chart: an empty SVG with a vertical axis from low to high, and the scale of that axis. */
function frame({ width, height, low, high, name }) {
  const y = (value) => height - EDGE.bottom - ((value - low) / (high - low)) * (height - EDGE.top - EDGE.bottom);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": name });
  for (const value of ticks(low, high)) {
    svg.append(
      make("line", { class: "rule", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }),
      make("text", { class: "tick", x: EDGE.left - 5, y: y(value) + 4, "text-anchor": "end" }, show(value, 3)),
    );
  }
  return { svg, y };
}

/** Return the place of bar j of m in group i of n: x and width. */
function place(i, n, j, m, width) {
  const group = (width - EDGE.left - EDGE.right) / n;
  const bar = (group * 0.82) / m;
  return { x: EDGE.left + group * (i + 0.09) + bar * j, width: Math.max(1, bar - 1.5), middle: EDGE.left + group * (i + 0.5) };
}

function groupLabel(text, x, height) {
  return make("text", { class: "tick", x, y: height - 8, "text-anchor": "middle" }, text);
}

/** Return grouped bars. `series` are laws: class, name, values in [0, 1]. */
export function bars({ width, height = 230, groups, series, name }) {
  const high = roundUp(Math.max(...series.flatMap((each) => each.values), 1e-3));
  const { svg, y } = frame({ width, height, low: 0, high, name });
  groups.forEach((group, i) => {
    series.forEach(({ law, name: title, values }, j) => {
      const at = place(i, groups.length, j, series.length, width);
      const top = y(values[i]);
      const bar = make("rect", { class: `bar ${law}`, x: at.x, y: top, width: at.width, height: y(0) - top });
      bar.append(make("title", {}, `${title}, x = ${group}: ${show(values[i])}`));
      svg.append(bar);
    });
    svg.append(groupLabel(group, place(i, groups.length, 0, 1, width).middle, height));
  });
  return svg;
}

/**
 * Return bars that can be dragged, or moved by the keys of a slider. Weights are whole numbers from 0 to `largest`.
 *
 * `set(j, i, weight)` is called with the series, the group and the new weight; `refresh(weights)` moves the bars.
 */
export function draggable({ width, height = 210, groups, series, largest, set }) {
  const { svg, y } = frame({ width, height, low: 0, high: largest, name: "" });
  svg.setAttribute("role", "group");
  svg.setAttribute("aria-label", "The table p(y, x): drag a bar, or use the arrow keys");
  const weightAt = (event) => {
    const box = svg.getBoundingClientRect();
    const share = (y(0) - ((event.clientY - box.top) * height) / box.height) / (y(0) - y(largest));
    return Math.round(Math.min(1, Math.max(0, share)) * largest);
  };
  const all = series.map(({ law, name }, j) =>
    groups.map((group, i) => {
      const at = place(i, groups.length, j, series.length, width);
      const hit = { class: "hit", x: at.x - 0.5, y: EDGE.top, width: at.width + 1, height: y(0) - EDGE.top };
      const bar = make("rect", { class: `bar ${law}`, x: at.x, width: at.width });
      const grip = make("rect", { class: "grip", x: at.x, width: at.width, height: 4 });
      const move = (event) => set(j, i, weightAt(event));
      const handle = make(
        "g",
        {
          class: "handle", tabindex: 0, role: "slider", "aria-orientation": "vertical",
          "aria-label": `weight of ${name}, x = ${group}`, "aria-valuemin": 0, "aria-valuemax": largest,
          pointerdown: (event) => {
            handle.setPointerCapture(event.pointerId);
            handle.focus();
            move(event);
          },
          pointermove: (event) => handle.hasPointerCapture(event.pointerId) && move(event),
          keydown: (event) => {
            const now = Number(handle.getAttribute("aria-valuenow"));
            const next = keyed(event.key, now, largest);
            if (next === null) return;
            event.preventDefault();
            set(j, i, next);
          },
        },
        make("rect", hit),
        bar,
        grip,
      );
      svg.append(handle);
      return { handle, bar, grip };
    }),
  );
  groups.forEach((group, i) => svg.append(groupLabel(group, place(i, groups.length, 0, 1, width).middle, height)));
  const refresh = (weights) => {
    const total = weights.flat().reduce((sum, each) => sum + each, 0);
    weights.forEach((row, j) => row.forEach((weight, i) => {
      const { handle, bar, grip } = all[j][i];
      bar.setAttribute("y", y(weight));
      bar.setAttribute("height", y(0) - y(weight));
      grip.setAttribute("y", y(weight) - 2);
      handle.setAttribute("aria-valuenow", weight);
      handle.setAttribute("aria-valuetext", `${weight}, probability ${show(weight / total, 3)}`);
    }));
  };
  return { svg, refresh };
}

/** Return the value after a key of a slider, or null for another key. */
function keyed(key, now, largest) {
  const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 };
  const ends = { Home: 0, End: largest };
  if (key in ends) return ends[key];
  return key in steps ? Math.min(largest, Math.max(0, now + steps[key])) : null;
}

/**
 * Return lines. `series` are laws: class, name, x and y, where a y that is not finite interrupts the line.
 *
 * Values beyond low and high are cut off. `mark` is an x to mark.
 */
export function lines({ width, height = 220, series, range, low = 0, high, name, mark = null }) {
  const { svg, y } = frame({ width, height, low, high: high ?? roundUp(peak(series, range)), name });
  const [first, last] = range;
  const x = (value) => EDGE.left + ((value - first) / (last - first)) * (width - EDGE.left - EDGE.right);
  for (const value of ticks(first, last, 6)) svg.append(groupLabel(show(value, 3), x(value), height));
  const across = { y1: EDGE.top, y2: height - EDGE.bottom };
  if (mark !== null) svg.append(make("line", { class: "mark", x1: x(mark), x2: x(mark), ...across }));
  const inside = (value) => Math.max(EDGE.top - 6, Math.min(height - EDGE.bottom, y(value)));
  for (const each of series) {
    let path = "";
    let open = false;
    each.x.forEach((at, i) => {
      const drawn = Number.isFinite(each.y[i]) && at >= first && at <= last;
      if (drawn) path += `${open ? "L" : "M"}${x(at).toFixed(2)} ${inside(each.y[i]).toFixed(2)}`;
      open = drawn;
    });
    const line = make("path", { class: `curve ${each.law}`, d: path });
    line.append(make("title", {}, each.name));
    svg.append(line);
  }
  return svg;
}

function peak(series, [first, last]) {
  const values = series.flatMap(({ x, y }) => y.filter((value, i) => Number.isFinite(value) && x[i] >= first && x[i] <= last));
  return Math.max(...values, 1e-3);
}
