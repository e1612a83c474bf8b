/** The filter of stars, picks and rejects: how many there are of each, and which are shown. */

import { h, icon, setAttribute, setText } from "./dom.js";
import { formatCount, starsText } from "./words.js";

const STARS = ["5", "4", "3", "2", "1", "0"];
/** @type {[string, string][]} */
const FLAGS = [["pick", "Picked"], ["reject", "Rejected"]];

/** @param {import("./state.js").Store} store */
export function createRated(store) {
  const least = [1, 2, 3, 4, 5].map((n) =>
    h("button", { type: "button", class: "star", "aria-label": `At least ${starsText(n)}`, title: `At least ${starsText(n)}`, onclick: () => chooseLeast(n) }, icon("star")));
  const stars = STARS.map((value) => choice("stars", value, value === "0" ? "Unrated" : starsText(Number(value))));
  const flags = FLAGS.map(([value, text]) => choice("flags", value, text));
  const lines = [...stars, ...flags];

  /** @param {"stars" | "flags"} name @param {string} value @param {string} text */
  function choice(name, value, text) {
    const box = h("input", { type: "checkbox", "aria-label": text, onchange: () => {
      const others = store.get()[name].filter((one) => one !== value);
      store.set({ [name]: box.checked ? [...others, value] : others });
    } });
    const count = h("span", { class: "count" });
    const fill = h("span", { class: "choice-fill" });
    const drawn = name === "stars" && value !== "0";
    const what = drawn ? h("span", { class: "small-stars", "data-n": value, "aria-hidden": "true" }) : h("span", { class: "ellipsis", text });
    const line = h("label", { class: "choice rated", title: text }, box, h("span", { class: "rated-what" }, what), h("span", { class: "choice-bar", "aria-hidden": "true" }, fill), count);
    return { name, value, line, box, count, fill };
  }

  /** The least number of stars that the filter asks for, 0 where it asks for something else. */
  function leastOf() {
    const chosen = store.get().stars;
    const n = Math.min(...chosen.map(Number));
    return chosen.length === 6 - n && n > 0 ? n : 0;
  }

  /** @param {number} n */
  function chooseLeast(n) {
    store.set({ stars: leastOf() === n ? [] : STARS.filter((value) => Number(value) >= n) });
  }

  return {
    element: h("div", {},
      h("div", { class: "least" }, h("span", { class: "quiet", text: "At least" }), h("div", { class: "star-row", role: "group", "aria-label": "At least" }, ...least)),
      h("div", { class: "choices" }, ...lines.map(({ line }) => line))),
    /** @param {import("./types.js").Counts} counts */
    show(counts) {
      const state = store.get();
      const n = leastOf();
      least.forEach((star, place) => {
        star.classList.toggle("on", place < n);
        setAttribute(star, "aria-pressed", String(place + 1 === n));
      });
      const most = Math.max(1, ...STARS.filter((value) => value !== "0").map((value) => counts.stars.get(value) ?? 0));
      for (const { name, value, line, box, count, fill } of lines) {
        const found = counts[name].get(value) ?? 0;
        box.checked = state[name].includes(value);
        setText(count, formatCount(found));
        // The unrated are mostly all: beside them the others would be no bars.
        fill.style.width = name === "stars" && value !== "0" ? `${(100 * found) / most}%` : "0";
        line.classList.toggle("none", found === 0 && !box.checked);
      }
    },
  };
}

/** What a filter of stars is called. @param {string[]} stars */
export function starsFilterText(stars) {
  const values = stars.map(Number).sort();
  const [least, most] = [values[0], values[values.length - 1]];
  const isRange = most - least + 1 === values.length;
  if (isRange && most === 5 && least > 0 && least < 5) return `at least ${starsText(least)}`;
  return values.map((value) => (value === 0 ? "unrated" : starsText(value))).join(" or ");
}
