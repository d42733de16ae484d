// Texts that `arguide scale-factors --explore FILE.json` writes; analysis/text/explored_texts.py documents the file.
//
//   log q(x) = Σ_t (log_target − log Z_t)      the sequential law
//   log p(x) = Σ_t log_target − log Z          the joint law
//   gain     = log p(x) − log q(x) = Σ_t log Z_t − log Z

export const FORMAT = "arguide text";
export const VERSION = 1;
export const LAWS = ["given", "sequential", "joint"];

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const isText = (value) => typeof value === "string";
const isNumberOrNull = (value) => value === null || isNumber(value);
const isPair = (value) => Array.isArray(value) && value.length === 2 && value.every(isNumberOrNull);
const FIELDS = {
  model: isText,
  prompt: isText,
  negative: (value) => value === null || isText(value),
  scale: isNumber,
  temperature: isNumber,
  max_new_tokens: isNumber,
  base: isText,
  log_z: isNumber,
  log_z_std_error: isNumberOrNull,
  kl: isNumber,
  kl_interval: isPair,
  verdict: isText,
  consistent: (value) => typeof value === "boolean",
};
const COLUMNS = ["log_target", "log_normalizer", "log_base"];

function require(condition, message) {
  if (!condition) throw new TypeError(message);
}

/** Return the content of a file, with the joint law's favourites first; raise TypeError with one line for a malformed one. */
export function readText(source) {
  let content;
  try {
    content = JSON.parse(source);
  } catch {
    throw new TypeError("the file must be JSON, as `arguide scale-factors … --explore FILE.json` writes it");
  }
  require(content && content.format === FORMAT, `the file must have the format "${FORMAT}"; write it with --explore`);
  require(content.version === VERSION, `version must be ${VERSION}, got ${JSON.stringify(content.version)}`);
  for (const [name, fits] of Object.entries(FIELDS)) require(fits(content[name]), `${name} is missing or of the wrong type`);
  require(Array.isArray(content.texts) && content.texts.length > 0, "texts must be a list of at least one text");
  content.texts.forEach((text, i) => checkText(text, `text ${i + 1}`));
  content.texts.sort((one, other) => scores(other).gain - scores(one).gain);
  return content;
}

function checkText(text, where) {
  require(text && LAWS.includes(text.law), `${where}: law must be one of ${LAWS.join(", ")}`);
  require(Array.isArray(text.tokens) && text.tokens.length > 0 && text.tokens.every(isText), `${where}: tokens must be texts`);
  require(typeof text.ended === "boolean" && isNumber(text.log_z), `${where}: ended or log_z is missing`);
  for (const name of COLUMNS) {
    const fits = Array.isArray(text[name]) && text[name].length === text.tokens.length;
    require(fits && text[name].every(isNumber), `${where}: ${name} must have ${text.tokens.length} numbers, one per token`);
  }
}

const total = (values) => values.reduce((sum, each) => sum + each, 0);

/** Return the log-probabilities of a text under both laws, the log of the base law, and the gain. */
export function scores(text) {
  const [target, path, base] = COLUMNS.map((name) => total(text[name]));
  return { sequential: target - path, joint: target - text.log_z, base, path, gain: path - text.log_z };
}

/** Return for every token log Z_t, log q(x_t|x_<t), log p(x_t|x_<t) of the base law, and Σ log Z_s up to t. */
export function tokenRows(text) {
  let path = 0;
  return text.tokens.map((token, t) => {
    const log_z = text.log_normalizer[t];
    path += log_z;
    return { token, logZ: log_z, logQ: text.log_target[t] - log_z, logBase: text.log_base[t], path };
  });
}

/** Return the place of every text, 1 for the likeliest, under the law of a name in `scores`. */
export function ranks(texts, law) {
  const values = texts.map((text) => scores(text)[law]);
  return values.map((value) => 1 + values.filter((other) => other > value).length);
}
