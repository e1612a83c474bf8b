/** The line above the photographs: what restricts them and how to lift it; and what to say where there are none. */

import { byId, h, icon, iconButton } from "./dom.js";
import { starsFilterText } from "./rated.js";
import { countFilters, isSearching, NO_FILTERS } from "./state.js";
import { countOf, formatCount, formatDay, formatScore, KINDS } from "./words.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Shown} Shown */

/**
 * @param {import("./state.js").Store} store
 * @param {{onSelectAll: () => void}} act
 */
export function createLine(store, act) {
  const line = byId("line");
  const empty = byId("empty");
  let drawn = "";

  const clearFilters = () => store.set({ ...NO_FILTERS, folders: [], endings: [], kinds: [], stars: [], flags: [] });

  /** @param {string} text @param {() => void} remove */
  const chip = (text, remove) => h("span", { class: "chip" }, h("span", { class: "ellipsis", text }), iconButton("close", `Without: ${text}`, remove));

  /** @param {State} state @param {import("./shown.js").Known} known */
  function chipsOf(state, known) {
    const chips = [];
    const group = known.groups?.groups.find((one) => one.id === state.group);
    if (state.group) chips.push(chip(group ? `${KINDS[group.kind].one} of ${countOf(group.rows.length)}` : "one group", () => store.set({ group: "" })));
    if (state.name) chips.push(chip(`name has "${state.name}"`, () => store.set({ name: "" })));
    if (state.score) chips.push(chip(`score ${state.score.map(formatScore).join(" to ")}`, () => store.set({ score: null })));
    if (state.alike) chips.push(chip(`likeness ${state.alike.map(formatScore).join(" to ")}`, () => store.set({ alike: null })));
    if (state.date) chips.push(chip(state.date.map(formatDay).join(" to "), () => store.set({ date: null })));
    if (state.folders.length) chips.push(chip(state.folders.length === 1 ? state.folders[0] || "top folder" : countOf(state.folders.length, "folder"), () => store.set({ folders: [] })));
    if (state.endings.length) chips.push(chip(state.endings.map((ending) => ending.replace(/^\./, "").toUpperCase()).join(", "), () => store.set({ endings: [] })));
    if (state.kinds.length) chips.push(chip(state.kinds.map((kind) => KINDS[/** @type {import("./words.js").Kind} */ (kind)]?.many ?? kind).join(", "), () => store.set({ kinds: [] })));
    if (state.stars.length) chips.push(chip(starsFilterText(state.stars), () => store.set({ stars: [] })));
    if (state.flags.length) chips.push(chip(state.flags.map((flag) => (flag === "pick" ? "picked" : "rejected")).join(" or "), () => store.set({ flags: [] })));
    if (state.failed) chips.push(chip("could not be read", () => store.set({ failed: false })));
    return chips;
  }

  return {
    /**
     * @param {State} state @param {Shown} shown @param {import("./shown.js").Known} known
     * @param {{progress: import("./types.js").Progress | null, busySearch: boolean, searchProblem: string, groupsProblem: string, nWithout: number, isRated: boolean}} now
     */
    show(state, shown, known, { progress, busySearch, searchProblem, groupsProblem, nWithout, isRated }) {
      const parts = [];
      const groups = state.view === "groups" && !state.group && known.groups;
      if (groups) parts.push(`${countOf(shown.rows.length, "group")}, ${countOf(shown.n)}`);
      else if (countFilters(state)) parts.push(`${formatCount(shown.n)} of ${countOf(shown.total)}`);
      const busy = progress !== null && ["starting", "embedding"].includes(progress.phase);
      if (nWithout > 0 && (isSearching(state) || ["best", "taste"].includes(state.order)) && !state.failed && (state.order !== "taste" || isRated)) {
        parts.push(busy ? `${countOf(nWithout)} not looked at yet, at the end` : `${countOf(nWithout)} without a score, at the end`);
      }
      if (state.order === "taste" && !isRated) parts.push("nothing is rated yet: by name until something is");
      if (busySearch) parts.push("searching…");
      const chips = chipsOf(state, known);
      const content = JSON.stringify([parts, chips.map((one) => one.textContent), state.view, shown.rows.length > 0, state.group]);
      if (content !== drawn) {
        drawn = content;
        const select = groups && shown.rows.length ? h("button", { type: "button", class: "button", title: "Selects the suggested photograph of each group, or with the order Sharpest first the sharpest (Ctrl+A)", onclick: act.onSelectAll }, icon("check"), "Select the top of each") : null;
        const back = state.group ? h("button", { type: "button", class: "button", onclick: () => history.length > 1 ? history.back() : store.set({ group: "" }) }, icon("back"), "Back") : null;
        const clear = chips.length > 1 ? h("button", { type: "button", class: "link", text: "Clear filters", onclick: clearFilters }) : null;
        line.replaceChildren(...[back, parts.length ? h("span", { class: "line-text", text: parts.join(" · ") }) : null, ...chips, clear, select].filter((one) => one !== null));
        line.hidden = !line.childElementCount;
      }
      paintEmpty(state, shown, known, progress, groupsProblem, searchProblem);
    },
  };

  /** @param {State} state @param {Shown} shown @param {import("./shown.js").Known} known @param {import("./types.js").Progress | null} progress @param {string} groupsProblem @param {string} searchProblem */
  function paintEmpty(state, shown, known, progress, groupsProblem, searchProblem) {
    /** @type {[string, string, boolean]} Title, about, whether filters can be cleared. */
    let text = ["", "", false];
    if (known.photographs.key.length > 0 && shown.total === 0 && !state.failed) {
      text = ["No photograph here could be read", "Why not is said with each of them: choose \"Could not be read\" among the filters.", false];
    } else if (known.photographs.key.length === 0) {
      const listing = !progress || ["listing", "starting"].includes(progress.phase);
      text = listing ? ["Looking for photographs…", "They appear here as they are found.", false] : ["No photograph here", "The folder has no picture that can be read. Put photographs into it, and they appear here.", false];
    } else if (state.view === "groups" && !known.groups) {
      text = groupsProblem ? ["Groups could not be found", groupsProblem, false] : ["Looking for groups…", "Photographs of one moment, copies, brackets and panoramas are brought together.", false];
    } else if (shown.rows.length === 0) {
      if (state.view === "groups" && known.groups?.groups.length === 0) text = ["No groups", progress && progress.phase !== "ready" ? "None so far: groups are found among photographs that were looked at already." : "No two photographs here are copies, of one moment or parts of one panorama.", false];
      else text = ["No photograph passes these filters", "", true];
    }
    if (searchProblem && isSearching(state) && !known.search) text = ["This search did not work", searchProblem, false];
    empty.hidden = text[0] === "";
    if (empty.dataset.content === JSON.stringify(text)) return;
    empty.dataset.content = JSON.stringify(text);
    empty.replaceChildren(h("h2", { text: text[0] }), h("p", { text: text[1] }));
    if (text[2]) empty.append(h("button", { type: "button", class: "button", text: "Clear all filters", onclick: clearFilters }));
  }
}
