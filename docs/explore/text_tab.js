// The tab of a text: log Z_t under every token, and texts of both laws.

import { grid, make, numberCell, put, show } from "./dom.js";
import { ranks, readText, scores, tokenRows } from "./text.js";

/** Build the tab; return a function that shows a state. `example` is the text of the bundled file. */
export function textTab(panel, change, example) {
  const find = (name) => panel.querySelector(`[data-part="${name}"]`);
  let [content, origin, latest] = [readText(example), "the bundled example", null];
  const read = async (file) => {
    try {
      content = readText(await file.text());
      origin = file.name;
      find("error").textContent = "";
      change({ text: 0, token: 0 });
    } catch (error) {
      find("error").textContent = `${file.name}: ${error.message}`;
    }
  };
  const input = find("file");
  input.addEventListener("change", () => input.files.length && read(input.files[0]).then(() => (input.value = "")));
  panel.addEventListener("dragover", (event) => {
    event.preventDefault();
    panel.classList.add("over");
  });
  panel.addEventListener("dragleave", () => panel.classList.remove("over"));
  panel.addEventListener("drop", (event) => {
    event.preventDefault();
    panel.classList.remove("over");
    if (event.dataTransfer.files.length) read(event.dataTransfer.files[0]);
  });
  find("tokens").addEventListener("keydown", (event) => {
    const last = content.texts[chosen(latest)].tokens.length - 1;
    const next = { ArrowRight: latest.token + 1, ArrowLeft: latest.token - 1, Home: 0, End: last }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    change({ token: Math.min(last, Math.max(0, next)) });
    find("tokens").querySelector('[tabindex="0"]').focus();
  });
  const chosen = (state) => Math.min(state.text, content.texts.length - 1);

  return (state) => {
    const index = chosen(state);
    const text = content.texts[index];
    latest = { ...state, token: Math.min(state.token, text.tokens.length - 1) };
    find("source").replaceChildren(...sourceOf(content, origin));
    showGain(find, content, text);
    const rows = tokenRows(text);
    showTokens(find("tokens"), rows, latest.token, change, text.ended);
    showToken(find, rows, latest.token);
    find("candidates").replaceChildren(candidates(content.texts, index, change));
  };
}

function sourceOf(content, origin) {
  const ends = content.kl_interval.map((each) => show(each, 3)).join(", ");
  const interval = content.kl_interval.includes(null) ? "" : ` [${ends}]`;
  const facts = [
    ["file", origin],
    ["model", content.model],
    ["prompt", content.prompt],
    ["negative", content.negative ?? "the last token of the prompt"],
    ["γ, τ, T", `${show(content.scale)}, ${show(content.temperature)}, ${content.max_new_tokens}`],
    ["log Z", `${show(content.log_z)} ± ${show(content.log_z_std_error, 2)}`],
    ["KL(sequential ‖ joint)", `${show(content.kl, 3)}${interval} nats`],
    ["estimate", content.verdict],
  ];
  return facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
}

function showGain(find, content, text) {
  const { gain } = scores(text);
  put(find("gain"), gain, 3);
  const times = show(Math.exp(Math.abs(gain)), 3);
  const [more, less] = gain >= 0 ? ["joint law", "sequential law"] : ["sequential law", "joint law"];
  const doubt = content.consistent ? "" : " Read it with care: the estimate of log Z did not converge.";
  const says = `The ${more} gives this text ${times} times the probability that the ${less} gives it.`;
  find("sentence").textContent = says + doubt;
}

function showTokens(box, rows, selected, change, ended) {
  const most = Math.max(...rows.map(({ logZ }) => Math.abs(logZ)), 1e-9);
  const tokens = rows.map(({ token, logZ }, i) => {
    const piece = ended && i === rows.length - 1 ? "⏹ end" : token;
    const name = `${piece.trim() || "space"}, log Z ${show(logZ, 3)}`;
    const node = make(
      "button",
      {
        type: "button", class: logZ < 0 ? "token below" : "token", role: "option", tabindex: i === selected ? 0 : -1,
        "aria-selected": String(i === selected), "aria-label": name, title: name, click: () => change({ token: i }),
        mouseenter: () => change({ token: i }),
      },
      make("span", { class: "piece" }, piece.replace(/^ /, "").replaceAll("\n", "↵") || "␣"),
      make("span", { class: "log" }, show(Number(logZ.toFixed(2)), 3)),
    );
    node.style.setProperty("--share", Math.abs(logZ) / most);
    return node;
  });
  const focused = box.contains(document.activeElement);
  if (sameTokens(box, tokens)) {
    [...box.children].forEach((node, i) => {
      node.tabIndex = i === selected ? 0 : -1;
      node.setAttribute("aria-selected", String(i === selected));
    });
    return;
  }
  box.replaceChildren(...tokens);
  if (focused) tokens[selected].focus();
}

/** Return whether a box already holds these tokens, so that focus and pointer can stay. */
function sameTokens(box, tokens) {
  const labels = (nodes) => [...nodes].map((node) => node.getAttribute("aria-label")).join("\n");
  return box.children.length > 0 && labels(box.children) === labels(tokens);
}

function showToken(find, rows, selected) {
  const row = rows[selected];
  for (const name of ["logZ", "logQ", "logBase", "path"]) put(find(name), row[name], 3);
  find("token-name").textContent = `“${row.token.trim()}”`;
  find("token-place").textContent = `token ${selected + 1} of ${rows.length}`;
}

function candidates(texts, selected, change) {
  const [bySequential, byJoint] = ["sequential", "joint"].map((law) => ranks(texts, law));
  const rows = texts.map((text, i) => {
    const { sequential, joint, gain } = scores(text);
    const title = text.tokens.join("").trim() || "(empty)";
    const choose = () => change({ text: i, token: 0 });
    const pressed = String(i === selected);
    const pick = make("button", { type: "button", class: "pick", "aria-pressed": pressed, click: choose }, title);
    const [gained, ofQ, ofP] = [numberCell(gain, 3), numberCell(sequential), numberCell(joint)];
    ofQ.append(make("small", {}, ` #${bySequential[i]}`));
    ofP.append(make("small", {}, ` #${byJoint[i]}`));
    const law = make("td", {}, make("i", { class: `key ${text.law}` }), text.law);
    return make("tr", { class: i === selected ? "selected" : "" }, make("th", { scope: "row" }, pick), gained, law, ofQ, ofP);
  });
  const heads = ["text", "log p − log q", "drawn from", "log q, sequential", "log p, joint"];
  return grid("Choose a text: the joint law’s favourites first (# is a rank)", heads, rows);
}
