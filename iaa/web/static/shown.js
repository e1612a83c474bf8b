/** From the library and the state to what is shown: filters, order, stacks, headings and all counts. Pure. */

import { flagName, formatMonth, KIND_NAMES, KINDS, wholeStars } from "./words.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Photographs} Photographs */
/** @typedef {import("./types.js").Order} Order */
/** @typedef {import("./types.js").Groups} Groups */
/** @typedef {import("./types.js").Heading} Heading */
/** @typedef {import("./types.js").Shown} Shown */
/** @typedef {{photographs: Photographs, score: Order | null, search: Order | null, taste: Order | null, groups: Groups | null, marks: import("./types.js").Marks}} Known */

/** One bit for each filter, set where a photograph fails it. */
export const BIT = { score: 1, alike: 2, date: 4, folder: 8, ending: 16, kind: 32, name: 64, failed: 128, group: 256, view: 512, stars: 1024, flag: 2048 };

/** What the filter of stars calls a photograph's. @param {number} stars */
const starsName = (stars) => String(wholeStars(stars));

/** @param {State} state @param {Known} known @returns {Shown} */
export function compute(state, known) {
  const { photographs, groups } = known;
  const mask = failedFilters(state, known);
  const nFailed = photographs.state.reduce((n, one) => n + (one === "failed" ? 1 : 0), 0);
  const total = state.failed ? nFailed : photographs.key.length - nFailed;
  const counts = countChoices(known, mask);
  const group = state.group && groups ? groups.groups.find((one) => one.id === state.group) : undefined;
  /** @type {Int32Array} */
  const ordered = state.view === "groups" && !groups ? new Int32Array(0) : group ? Int32Array.from(group.rows) : orderRows(state, known);
  const passing = ordered.filter((row) => mask[row] === 0);
  const base = { n: passing.length, total, nFailed, counts, mask };
  if (state.view === "groups" && groups && !group) return { ...base, ...stacksByKind(state, passing, groups) };
  if (state.stacks && groups && !group) return { ...base, ...collapse(state, passing, groups), headings: [] };
  const headings = state.order === "time" && !group && state.view === "all" ? months(passing, photographs) : [];
  return { ...base, rows: passing, stacks: new Int32Array(passing.length).fill(-1), headings };
}

/** @param {State} state @param {Known} known */
function failedFilters(state, { photographs, score, search, groups, marks }) {
  const n = photographs.key.length;
  const mask = new Uint16Array(n);
  const folders = new Set(state.folders);
  const endings = new Set(state.endings);
  const name = state.name.toLowerCase();
  const group = state.group && groups ? groups.groups.findIndex((one) => one.id === state.group) : -1;
  for (let row = 0; row < n; row++) {
    let bits = 0;
    if (state.score && score && !within(score.score[row], state.score)) bits |= BIT.score;
    if (state.alike && search && !within(search.score[row], state.alike)) bits |= BIT.alike;
    if (state.date && !within(photographs.taken[row] ?? NaN, state.date)) bits |= BIT.date;
    if (folders.size && !folders.has(photographs.folder[row])) bits |= BIT.folder;
    if (endings.size && !endings.has(photographs.ending[row])) bits |= BIT.ending;
    if (name && !photographs.name[row].toLowerCase().includes(name)) bits |= BIT.name;
    if (state.stars.length && !state.stars.includes(starsName(marks.stars[row]))) bits |= BIT.stars;
    if (state.flags.length && !state.flags.includes(flagName(marks.flag[row]))) bits |= BIT.flag;
    if (state.failed !== (photographs.state[row] === "failed")) bits |= BIT.failed;
    if (groups) {
      const index = groups.of[row];
      if (state.kinds.length && (index < 0 || !state.kinds.includes(groups.groups[index].kind))) bits |= BIT.kind;
      if (group >= 0 && index !== group) bits |= BIT.group;
      if (state.view === "groups" && index < 0) bits |= BIT.view;
    }
    mask[row] = bits;
  }
  return mask;
}

/** @param {number} value @param {import("./types.js").Range} range */
const within = (value, [low, high]) => value >= low && value <= high;

/** Each choice's count has all filters but its own applied. @param {Known} known @param {Uint16Array} mask @returns {import("./types.js").Counts} */
function countChoices({ photographs, groups, marks }, mask) {
  /** @type {Map<string, number>} */
  const stars = new Map();
  /** @type {Map<string, number>} */
  const flags = new Map();
  const add = (/** @type {Map<string, number>} */ counts, /** @type {string} */ name, /** @type {number} */ bits) => counts.set(name, (counts.get(name) ?? 0) + (bits === 0 ? 1 : 0));
  /** @type {Map<string, number>} */
  const folders = new Map();
  /** @type {Map<string, number>} */
  const endings = new Map();
  /** @type {Map<string, number>} */
  const kinds = new Map();
  /** @type {Map<string, Set<number>>} */
  const seen = new Map();
  for (let row = 0; row < mask.length; row++) {
    const folder = photographs.folder[row];
    const ending = photographs.ending[row];
    folders.set(folder, (folders.get(folder) ?? 0) + ((mask[row] & ~BIT.folder) === 0 ? 1 : 0));
    endings.set(ending, (endings.get(ending) ?? 0) + ((mask[row] & ~BIT.ending) === 0 ? 1 : 0));
    add(stars, starsName(marks.stars[row]), mask[row] & ~BIT.stars);
    if (marks.flag[row]) add(flags, flagName(marks.flag[row]), mask[row] & ~BIT.flag);
    const index = groups ? groups.of[row] : -1;
    if (groups && index >= 0) {
      const passes = (mask[row] & ~BIT.kind) === 0;
      const kind = groups.groups[index].kind;
      kinds.set(kind, (kinds.get(kind) ?? 0) + (passes ? 1 : 0));
      if (!seen.has(kind)) seen.set(kind, new Set());
      if (passes) seen.get(kind)?.add(index);
    }
  }
  return { folders, endings, kinds, stars, flags, groups: new Map([...seen].map(([kind, some]) => [kind, some.size])) };
}

/** All rows in the state's order; those without a value come last, by name. @param {State} state @param {Known} known @returns {Int32Array} */
export function orderRows(state, { photographs, score, search, taste }) {
  const n = photographs.key.length;
  /** @type {Int32Array} */
  let first;
  if (state.order === "alike" && search) first = search.rows;
  else if (state.order === "taste" && taste) first = taste.rows;
  else if (state.order === "best" && score) first = score.rows;
  else if (state.order === "time") first = sortedBy(photographs, "time");
  else if (state.order === "sharp") first = sortedBy(photographs, "sharp");
  else first = sortedBy(photographs, "name");
  if (state.reversed) first = first.slice().reverse();
  if (first.length === n) return first;
  const has = new Uint8Array(n);
  for (const row of first) has[row] = 1;
  const rest = sortedBy(photographs, "name").filter((row) => has[row] === 0);
  const all = new Int32Array(n);
  all.set(first);
  all.set(rest, first.length);
  return all;
}

/** @type {WeakMap<Photographs, Map<string, Int32Array>>} */
const sorted = new WeakMap();

/** Sorting 100,000 names takes long enough to be done once per list. @param {Photographs} photographs @param {"name" | "time" | "sharp"} by @returns {Int32Array} */
function sortedBy(photographs, by) {
  const kept = sorted.get(photographs) ?? new Map();
  sorted.set(photographs, kept);
  const known = kept.get(by);
  if (known) return known;
  /** @type {Int32Array} */
  let rows = Int32Array.from(photographs.key, (_, row) => row);
  if (by === "name") {
    const { compare } = new Intl.Collator("en", { numeric: true });
    const { name, folder } = photographs;
    rows.sort((a, b) => compare(name[a], name[b]) || compare(folder[a], folder[b]));
  } else {
    const column = by === "time" ? photographs.taken : photographs.sharpness;
    rows = rows.filter((row) => column[row] !== null);
    const value = Float64Array.from(column, (one) => one ?? NaN);
    rows.sort((a, b) => value[b] - value[a] || a - b);
  }
  kept.set(by, rows);
  return rows;
}

/** Each group becomes one item, where its first member in order stands. @param {State} state @param {Int32Array} passing @param {Groups} groups */
function collapse(state, passing, groups) {
  const members = new Map();
  for (const row of passing) members.set(groups.of[row], (members.get(groups.of[row]) ?? 0) + 1);
  const seen = new Set();
  const rows = [];
  const stacks = [];
  for (const row of passing) {
    const index = groups.of[row];
    if (index >= 0 && members.get(index) > 1) {
      if (seen.has(index)) continue;
      seen.add(index);
      rows.push(coverOf(state, groups.groups[index], row));
      stacks.push(index);
    } else {
      rows.push(row);
      stacks.push(-1);
    }
  }
  return { rows: Int32Array.from(rows), stacks: Int32Array.from(stacks) };
}

/**
 * The photograph on top: the first in the state's order where that order says which is better, else the suggestion.
 * @param {State} state @param {import("./types.js").Group} group @param {number} first
 */
function coverOf(state, group, first) {
  if (!group.ranked) return group.rows[0];
  return ["sharp", "alike", "taste"].includes(state.order) && !state.reversed ? first : group.rows[0];
}

/** Only stacks, a heading for each kind. @param {State} state @param {Int32Array} passing @param {Groups} groups */
function stacksByKind(state, passing, groups) {
  const { rows, stacks } = collapse(state, passing, groups);
  const rowsByKind = KIND_NAMES.map((kind) => [...stacks.keys()].filter((item) => stacks[item] >= 0 && groups.groups[stacks[item]].kind === kind));
  const order = rowsByKind.flat();
  /** @type {Heading[]} */
  const headings = [];
  let at = 0;
  KIND_NAMES.forEach((kind, index) => {
    const n = rowsByKind[index].length;
    if (n) headings.push({ at, text: KINDS[kind].many, n });
    at += n;
  });
  return { rows: Int32Array.from(order, (item) => rows[item]), stacks: Int32Array.from(order, (item) => stacks[item]), headings };
}

/** @param {Int32Array} rows Sorted by time. @param {Photographs} photographs @returns {Heading[]} */
function months(rows, photographs) {
  /** @type {Heading[]} */
  const headings = [];
  let month = NaN;
  let text = "";
  for (let at = 0; at < rows.length; at++) {
    const taken = photographs.taken[rows[at]];
    const date = taken === null ? null : new Date(taken * 1000);
    const now = date ? date.getUTCFullYear() * 12 + date.getUTCMonth() : -1;
    if (now !== month) {
      text = taken === null ? "No date" : formatMonth(taken);
      headings.push({ at, text, n: 0 });
      month = now;
    }
    headings[headings.length - 1].n += 1;
  }
  return headings;
}
