/** The state as the part of the address after "#", so that reload, back and a kept link work. */

import { initialState } from "./state.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Range} Range */

const TEXTS = /** @type {const} */ (["head", "high", "low", "name", "group", "open"]);
const LISTS = /** @type {const} */ (["texts", "likes", "pictures", "folders", "endings", "kinds", "stars", "flags", "compare"]);
const RANGES = /** @type {const} */ (["score", "alike", "date"]);
const FLAGS = /** @type {const} */ (["reversed", "failed", "stacks"]);
const VIEWS = ["all", "groups", "map"];
const MODES = ["rate", "pairs"];
const ORDERS = ["best", "taste", "alike", "sharp", "time", "name"];

/**
 * Only what differs from the initial state is written.
 * @param {State} state
 * @param {State} [initial]
 */
export function writeAddress(state, initial = initialState()) {
  const words = new URLSearchParams();
  if (state.view !== initial.view) words.set("view", state.view);
  if (state.order !== initial.order) words.set("order", state.order);
  if (state.mode) words.set("mode", state.mode);
  for (const name of FLAGS) if (state[name]) words.set(name, "1");
  for (const name of TEXTS) if (state[name]) words.set(name, state[name]);
  for (const name of LISTS) for (const value of state[name]) words.append(name, value);
  for (const name of RANGES) {
    const range = state[name];
    if (range) words.set(name, range.map((end) => String(Number(end.toPrecision(12)))).join("~"));
  }
  return words.toString();
}

/**
 * What cannot be understood is left at its initial value: an address is something people edit and cut off.
 * @param {string} hash
 * @param {State} [initial]
 * @returns {State}
 */
export function readAddress(hash, initial = initialState()) {
  const words = new URLSearchParams(hash.replace(/^#/, ""));
  const state = { ...initial };
  const view = words.get("view") ?? "";
  if (VIEWS.includes(view)) state.view = /** @type {State["view"]} */ (view);
  const order = words.get("order") ?? "";
  if (ORDERS.includes(order)) state.order = /** @type {State["order"]} */ (order);
  const mode = words.get("mode") ?? "";
  if (MODES.includes(mode)) state.mode = /** @type {State["mode"]} */ (mode);
  for (const name of FLAGS) state[name] = words.get(name) === "1";
  for (const name of TEXTS) state[name] = words.get(name) ?? initial[name];
  for (const name of LISTS) state[name] = words.getAll(name);
  for (const name of RANGES) state[name] = readRange(words.get(name));
  state.compare = state.compare.slice(0, 4);
  return state;
}

/** @param {string | null} text @returns {Range | null} */
function readRange(text) {
  const ends = (text ?? "").split("~").map(Number);
  if (text === null || ends.length !== 2 || !ends.every(Number.isFinite)) return null;
  return ends[0] <= ends[1] ? [ends[0], ends[1]] : null;
}

/**
 * Keeps the address and the state equal, both ways.
 * @param {import("./state.js").Store} store
 * @param {State} initial
 */
export function followAddress(store, initial) {
  store.on((now, before, push) => {
    const hash = writeAddress(now, initial);
    if (hash === location.hash.replace(/^#/, "")) return;
    const address = hash ? `#${hash}` : location.pathname;
    if (push) history.pushState(null, "", address);
    else history.replaceState(null, "", address);
  });
  addEventListener("popstate", () => store.set(readAddress(location.hash, initial), { push: false }));
}
