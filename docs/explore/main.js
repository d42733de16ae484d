// The page: tabs, and one state that the URL holds.

import { gaussianTab } from "./gaussian_tab.js";
import { CHOICES, decode, encode } from "./state.js";
import { tableTab } from "./table_tab.js";
import { textTab } from "./text_tab.js";

const byId = (id) => document.getElementById(id);

async function start() {
  const inlined = byId("example");
  const example = inlined ? inlined.textContent : await (await fetch("./example.json")).text();
  let state = decode(location.hash);
  let [written, writing] = [location.hash.replace(/^#/, ""), 0];
  const change = (part) => {
    state = { ...state, ...part };
    render();
  };
  const tabs = CHOICES.tab;
  const panels = {
    table: tableTab(byId("panel-table"), change),
    gaussians: gaussianTab(byId("panel-gaussians"), change),
    text: textTab(byId("panel-text"), change, example),
  };
  const render = () => {
    for (const name of tabs) {
      const selected = name === state.tab;
      byId(`panel-${name}`).hidden = !selected;
      byId(`tab-${name}`).setAttribute("aria-selected", String(selected));
      byId(`tab-${name}`).tabIndex = selected ? 0 : -1;
    }
    panels[state.tab](state);
    clearTimeout(writing); // browsers refuse many changes of the URL at once
    writing = setTimeout(() => {
      written = encode(state);
      history.replaceState(null, "", `#${written}`);
    }, 150);
  };
  tabs.forEach((name, i) => {
    byId(`tab-${name}`).addEventListener("click", () => change({ tab: name }));
    byId(`tab-${name}`).addEventListener("keydown", (event) => {
      const next = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      change({ tab: tabs[(next + tabs.length) % tabs.length] });
      byId(`tab-${state.tab}`).focus();
    });
  });
  addEventListener("hashchange", () => {
    if (location.hash.replace(/^#/, "") !== written) {
      state = decode(location.hash);
      render();
    }
  });
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) {
      width = innerWidth;
      render();
    }
  });
  byId("loading").remove();
  byId("page").hidden = false;
  render();
}

start();
