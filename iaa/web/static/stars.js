/** Stars, pick and reject as buttons, for pointer, touch and screen readers. */

import { h, icon, setAttribute } from "./dom.js";
import { starsText, wholeStars } from "./words.js";

/** @typedef {import("./ratings.js").Mark} Mark */
/** @typedef {ReturnType<typeof createStars>} Stars */

/** @param {{label: string, onStars: (n: number) => void, onFlag?: (flag: number) => void}} act `onStars` hears 0 where the stars that are set are pressed again. */
export function createStars({ label, onStars, onFlag }) {
  let now = { stars: 0, flag: 0 };
  const stars = [1, 2, 3, 4, 5].map((n) =>
    h("button", { type: "button", class: "star", "aria-label": starsText(n), title: `${starsText(n)} (${n})`, onclick: () => onStars(wholeStars(now.stars) === n ? 0 : n) }, icon("star")));
  const flags = onFlag ? /** @type {const} */ ([[1, "pick", "Pick", "P"], [-1, "reject", "Reject", "X"]]).map(([flag, drawing, name, key]) =>
    h("button", { type: "button", class: "flag", "data-flag": drawing, "aria-label": name, title: `${name} (${key})`, onclick: () => onFlag(now.flag === flag ? 0 : flag) }, icon(drawing))) : [];
  const row = h("div", { class: "star-row" }, ...stars);
  return {
    element: h("div", { class: "stars", role: "group", "aria-label": label }, flags[1], row, flags[0]),
    /** @param {Mark} mark */
    show(mark) {
      now = mark;
      const n = wholeStars(mark.stars);
      stars.forEach((star, place) => {
        star.classList.toggle("on", place < n);
        setAttribute(star, "aria-pressed", String(place + 1 === n));
      });
      if (flags.length) {
        setAttribute(flags[0], "aria-pressed", String(mark.flag === 1));
        setAttribute(flags[1], "aria-pressed", String(mark.flag === -1));
      }
    },
  };
}
