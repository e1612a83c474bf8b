/** What the ratings are worth so far: asked for as they come, a line at the foot, all of it in a small window. */

import { openDialog } from "./dialog.js";
import { byId, h, setText } from "./dom.js";
import { evidenceOf, tableOf, verdictOf } from "./verdict.js";
import { countOf } from "./words.js";

/** @typedef {import("./types.js").Taste} Taste */
/** @typedef {ReturnType<typeof createWorth>} Worth */

/** Milliseconds of rest after which it is asked what the ratings are worth: measuring is work. */
const REST = 400;

/**
 * @param {import("./api.js").Api} api
 * @param {import("./ratings.js").RatingsData} ratings
 * @param {{onChange: () => void, onOrder: () => void, onResort: () => void}} act
 */
export function createWorth(api, ratings, act) {
  const element = byId("taste");
  const text = h("span", { class: "taste-text ellipsis" });
  // At the foot: above the photographs it would move them.
  const resort = h("button", { type: "button", class: "button", text: "Re-sort", title: "Your ratings have changed the order: bring the photographs into it (S)", onclick: act.onResort });
  element.append(text, h("button", { type: "button", class: "link", text: "Details", "aria-label": "Details: what your ratings are worth", onclick: () => show() }), resort);

  /** @type {Taste | null} */
  let taste = null;
  let askedFor = -1;
  let timer = 0;
  /** Fills the small window anew while it is open. */
  let repaintWindow = () => {};

  /** @param {number} wait */
  async function ask(wait) {
    try {
      taste = await api.taste();
      act.onChange();
      if (taste.phase === "working") timer = window.setTimeout(() => ask(Math.min(5000, wait * 1.5)), wait);
    } catch {
      // With the next rating.
      askedFor = -1;
    }
  }

  const rated = () => {
    const { n_pairs } = ratings.counts();
    return [countOf(ratings.nRated(), "photograph rated", "photographs rated"), n_pairs ? countOf(n_pairs, "comparison") : ""].filter(Boolean).join(", ");
  };

  function show() {
    const cells = (/** @type {string[]} */ some) => some.map((one, place) => h(place ? "td" : "th", { text: one, ...(place ? {} : { scope: "row" }) }));
    const verdict = h("p", { class: "taste-verdict" });
    const evidence = h("p", { class: "quiet" });
    const body = h("tbody", {});
    const details = h("details", {}, h("summary", { text: "Details" }), h("div", { class: "table-frame" }, h("table", { class: "worth-table" },
      h("thead", {}, h("tr", {}, ...["Question", "By", "Value", "95 % range", "n"].map((name) => h("th", { scope: "col", text: name })))), body)));
    // What was asked may be answered only now: the foot and this window say the same.
    repaintWindow = () => {
      const rows = taste ? tableOf(taste) : [];
      setText(verdict, `${rated()}: ${taste ? verdictOf(taste) : "finding out what is learned…"}.`);
      setText(evidence, taste ? evidenceOf(taste) : "");
      details.hidden = !rows.length;
      body.replaceChildren(...rows.map(({ question, by, value, range, n }) => h("tr", {}, ...cells([question, by, value, range, n]))));
    };
    repaintWindow();
    const dialog = openDialog("My taste", verdict, evidence,
      h("p", { class: "quiet", text: "Photographs are held back, predicted from your other ratings, and compared with what you said." }), details,
      h("div", { class: "dialog-buttons" }, h("button", { type: "button", class: "button primary", text: "Show photographs in my order", onclick: () => {
        dialog.close("");
        act.onOrder();
      } })));
    dialog.classList.add("taste-dialog");
    dialog.addEventListener("close", () => {
      repaintWindow = () => {};
    });
  }

  return {
    taste: () => taste,
    rated,
    show,
    /** Asks again where something was rated. */
    follow() {
      if (ratings.last() === askedFor || !ratings.isAny() && askedFor < 0) return;
      askedFor = ratings.last();
      clearTimeout(timer);
      timer = window.setTimeout(() => ask(700), REST);
    },
    /** @param {boolean} hasNewOrder Whether another order than the one that is shown waits. */
    paint(hasNewOrder) {
      resort.hidden = !hasNewOrder;
      element.hidden = !ratings.isAny() && ratings.nRated() === 0;
      document.body.classList.toggle("with-taste", !element.hidden);
      const line = `${rated()} · ${taste ? verdictOf(taste) : "finding out what is learned…"}`;
      setText(text, line);
      element.title = taste ? evidenceOf(taste) : "";
      repaintWindow();
    },
  };
}
