/** The filters at the side, each with its counts. */

import { byId, h, setText } from "./dom.js";
import { createHistogram } from "./histogram.js";
import { createRated } from "./rated.js";
import { BIT } from "./shown.js";
import { countFilters, isSearching, NO_FILTERS } from "./state.js";
import { countOf, formatCount, formatDay, formatScore, KIND_NAMES, KINDS } from "./words.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Shown} Shown */
/** @typedef {import("./shown.js").Known} Known */

/** How many folders are shown before "all". */
const FEW = 8;

/**
 * @param {import("./state.js").Store} store
 * @param {{onPair: () => void}} act
 */
export function createRail(store, act) {
  const element = byId("rail");
  const body = byId("rail-body");
  const head = h("select", { class: "select", "aria-label": "What gives the score", onchange: chooseHead });
  const about = h("p", { class: "quiet small" });
  const score = createHistogram({ title: "Score", format: formatScore, onRange: (range, done) => store.set({ score: range }, { push: done }) });
  const alike = createHistogram({ title: "Likeness", format: formatScore, onRange: (range, done) => store.set({ alike: range }, { push: done }) });
  const date = createHistogram({ title: "Date", format: formatDay, onRange: (range, done) => store.set({ date: range }, { push: done }) });
  const folders = createChoices("folders");
  const endings = createChoices("endings");
  const kinds = createChoices("kinds");
  const stacks = h("input", { type: "checkbox", onchange: () => store.set({ stacks: stacks.checked }) });
  const stacksLine = h("label", { class: "choice" }, stacks, h("span", { class: "ellipsis", text: "Show groups as stacks" }));
  const failed = h("input", { type: "checkbox", onchange: () => store.set({ failed: failed.checked }) });
  const failedCount = h("span", { class: "count" });
  const clear = h("button", { type: "button", class: "button", text: "Clear all filters", onclick: () => store.set({ ...NO_FILTERS, folders: [], endings: [], kinds: [], stars: [], flags: [] }) });
  const rated = createRated(store);
  const unrated = h("p", { class: "quiet", text: "Nothing is rated yet: the keys 1 to 5 give stars, X rejects, P picks." });

  const sections = {
    score: section("Score", head, about, score.element),
    alike: section("Likeness to the search", alike.element),
    rated: section("Stars", rated.element, unrated),
    date: section("Date", date.element),
    folder: section("Folder", folders.element),
    ending: section("Kind of file", endings.element),
    groups: section("Groups", kinds.element, stacksLine),
    failed: section("Could not be read", h("label", { class: "choice" }, failed, h("span", { class: "ellipsis", text: "Show only these" }), failedCount)),
  };
  for (const one of Object.values(sections)) one.hidden = true;
  clear.hidden = true;
  body.append(...Object.values(sections), clear);

  function chooseHead() {
    if (head.value === "\u0000pair") act.onPair();
    else store.set({ head: head.value, high: "", low: "", score: null });
  }

  /** @param {"folders" | "endings" | "kinds"} name */
  function createChoices(name) {
    const list = h("div", { class: "choices" });
    const more = h("button", { type: "button", class: "link", onclick: () => { all = !all; repaint(); } });
    let all = false;
    /** @type {[string, string, number][]} */
    let choices = [];
    let drawn = "";
    /** @type {Map<string, {box: HTMLInputElement, count: HTMLElement}>} */
    const lines = new Map();

    /** @param {string} value @param {string} text */
    function addLine(value, text) {
      const box = h("input", { type: "checkbox", onchange: () => {
        const others = store.get()[name].filter((one) => one !== value);
        store.set({ [name]: box.checked ? [...others, value] : others });
      } });
      const count = h("span", { class: "count" });
      lines.set(value, { box, count });
      list.append(h("label", { class: "choice" }, box, h("span", { class: "ellipsis", text, title: text }), count));
    }

    function repaint() {
      const chosen = new Set(store.get()[name]);
      const shown = all ? choices : choices.filter(([value], place) => place < FEW || chosen.has(value));
      const content = JSON.stringify(shown.map(([value, text]) => [value, text]));
      if (content !== drawn) {
        drawn = content;
        lines.clear();
        list.replaceChildren();
        for (const [value, text] of shown) addLine(value, text);
      }
      for (const [value, , n] of shown) {
        const line = lines.get(value);
        if (!line) continue;
        line.box.checked = chosen.has(value);
        setText(line.count, formatCount(n));
      }
      more.hidden = choices.length <= FEW;
      setText(more, all ? "Fewer" : `All ${formatCount(choices.length)}`);
    }

    return {
      element: h("div", {}, list, more),
      /** @param {[string, string, number][]} next Value, text, count. */
      show(next) {
        choices = next;
        repaint();
      },
    };
  }

  return {
    element,
    /** @param {State} state @param {Known} known @param {Shown} shown @param {import("./types.js").Library | null} info */
    show(state, known, shown, info) {
      const { photographs } = known;
      paintHeads(state, info);
      const passes = (/** @type {number} */ bit) => (/** @type {number} */ row) => (shown.mask[row] & ~bit) === 0;
      if (!photographs.key.length) return;
      sections.score.hidden = !known.score && !info?.heads.length;
      score.element.hidden = !known.score?.rows.length;
      score.show(known.score?.score ?? [], passes(BIT.score), state.score);
      sections.alike.hidden = !isSearching(state) || !known.search;
      if (known.search) alike.show(known.search.score, passes(BIT.alike), state.alike);
      const isRated = shown.counts.flags.size > 0 || shown.counts.stars.size > Number(shown.counts.stars.has("0")) || state.stars.length + state.flags.length > 0;
      sections.rated.hidden = false;
      rated.element.hidden = !isRated;
      unrated.hidden = isRated;
      rated.show(shown.counts);
      const taken = Float64Array.from(photographs.taken, (one) => one ?? NaN);
      sections.date.hidden = !taken.some((one) => !Number.isNaN(one));
      if (!sections.date.hidden) date.show(taken, passes(BIT.date), state.date);
      sections.folder.hidden = shown.counts.folders.size < 2 && !state.folders.length;
      folders.show(inOrder(shown.counts.folders).map(([value, n]) => [value, value || "(top folder)", n]));
      sections.ending.hidden = shown.counts.endings.size < 2 && !state.endings.length;
      endings.show(inOrder(shown.counts.endings).map(([value, n]) => [value, value.replace(/^\./, "").toUpperCase() || "none", n]));
      kinds.show(KIND_NAMES.filter((kind) => shown.counts.kinds.has(kind)).map((kind) => {
        const n = shown.counts.groups.get(kind) ?? 0;
        return [kind, `${KINDS[kind].many} · ${countOf(n, "group")}`, shown.counts.kinds.get(kind) ?? 0];
      }));
      stacks.checked = state.stacks;
      sections.groups.hidden = photographs.key.length < 2;
      sections.failed.hidden = shown.nFailed === 0 && !state.failed;
      failed.checked = state.failed;
      setText(failedCount, formatCount(shown.nFailed));
      clear.hidden = countFilters(state) === 0;
    },
  };

  /** @param {State} state @param {import("./types.js").Library | null} info */
  function paintHeads(state, info) {
    const pair = state.high && state.low ? `${state.high} or ${state.low}` : "";
    const options = (info?.heads ?? []).map(({ name, title }) => h("option", { value: name, text: title }));
    if (pair) options.push(h("option", { value: "\u0000now", text: pair }));
    if (info?.words) options.push(h("option", { value: "\u0000pair", text: "Between two words…" }));
    const content = options.map((option) => option.textContent).join("|");
    if (head.dataset.content !== content) {
      head.dataset.content = content;
      head.replaceChildren(...options);
    }
    const name = state.head || info?.default_head || info?.heads[0]?.name || "";
    head.value = pair ? "\u0000now" : name;
    head.hidden = options.length < 2;
    setText(about, pair ? "" : info?.heads.find((one) => one.name === name)?.about ?? "");
    about.hidden = !about.textContent;
  }
}

/** @param {string} title @param {...(Node | null)} children */
function section(title, ...children) {
  return h("section", { class: "rail-section" }, h("h2", { text: title }), ...children);
}

/** @param {Map<string, number>} counts */
function inOrder(counts) {
  return [...counts].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }));
}
