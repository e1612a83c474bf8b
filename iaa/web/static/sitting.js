/** A sitting: photographs that are worth rating come one after the other, or two at a time, until one has enough. */

import { byId, h, iconButton, setText } from "./dom.js";
import { createQueue } from "./queue.js";
import { createRateOne } from "./rate-one.js";
import { createRatePair } from "./rate-pair.js";
import { evidenceOf, verdictOf } from "./verdict.js";
import { countOf } from "./words.js";

/** @typedef {import("./ratings.js").Change} Change */
/** @typedef {import("./viewer.js").Photograph} Photograph */
/** @typedef {"rate" | "pairs"} Mode */

const TITLES = { rate: "Rate these next", pairs: "Which of these two?" };
const KEYS = {
  rate: [["1 to 5", "stars"], ["X", "reject"], ["P", "pick"], ["→ or S", "skip"], ["←", "the one before"], ["Z", "100 %"]],
  pairs: [["A", "left is better"], ["B", "right is better"], ["=", "equal"], ["→ or S", "skip"]],
};

/**
 * @param {import("./api.js").Api} api
 * @param {import("./ratings.js").RatingsData} ratings
 * @param {import("./marking.js").Marking} marking
 * @param {import("./worth.js").Worth} worth
 * @param {{photographOf: (key: string) => Photograph | null, groupOf: (key: string) => string, onMode: (mode: Mode) => void, onClose: () => void, onOrder: () => void, onUndo: () => void}} act
 */
export function createSitting(api, ratings, marking, worth, act) {
  const element = byId("sitting");
  const title = h("h1", { class: "viewer-name", id: "sitting-name" });
  const modes = /** @type {[Mode, string][]} */ ([["rate", "One by one"], ["pairs", "Two at a time"]]).map(([mode, text]) => ({ mode, button: h("button", { type: "button", class: "segment", text, onclick: () => act.onMode(mode) }) }));
  const count = h("p", { class: "sitting-count" });
  const total = h("p", { class: "quiet" });
  const verdict = h("p", { class: "sitting-verdict" });
  const evidence = h("p", { class: "quiet small" });
  const keys = h("table", { class: "keys wide-only" });
  const message = h("p", { class: "stage-message", role: "status" });
  const again = h("button", { type: "button", class: "button sitting-again", text: "Look again, skipped ones too", onclick: () => startAnew() });
  const one = createRateOne({
    // Pressed once more, what is set stays: here one goes on.
    onStars: (n) => (n ? rate("stars", n) : step(1)),
    onFlag: (flag) => (flag ? rate("flag", flag) : step(1)),
    onStep: step,
  });
  const pair = createRatePair({ onAnswer: answer, onSkip: () => nextPair() });
  element.append(
    h("header", { class: "viewer-bar" }, iconButton("back", "Back to all photographs", () => act.onClose(), "Esc"), h("div", { class: "viewer-title" }, title),
      h("div", { class: "sitting-modes", role: "group", "aria-label": "How" }, ...modes.map(({ button }) => button))),
    h("div", { class: "sitting-middle" }, h("div", { class: "sitting-stage" }, one.element, pair.element, message, again),
      h("aside", { class: "sitting-side", "aria-label": "How far you are" }, count, total, verdict, evidence,
        h("div", { class: "sitting-actions" },
          h("button", { type: "button", class: "button", text: "Undo", title: "Take the last one back (Ctrl+Z)", onclick: () => act.onUndo() }),
          h("button", { type: "button", class: "button", text: "Show my order", title: "Photographs in the order that was learned", onclick: () => act.onOrder() }),
          h("button", { type: "button", class: "link", text: "Details", "aria-label": "Details: what your ratings are worth", onclick: () => worth.show() })),
        keys)));

  const queue = createQueue(api, {
    isKnown: (key) => act.photographOf(key) !== null,
    isRated: (key) => ratings.of(key).stars > 0 || ratings.of(key).flag !== 0,
    groupOf: act.groupOf,
    isOpen: () => !element.hidden,
    onChange: () => {
      if (element.hidden) return;
      fillUp();
      paint();
    },
  });

  /** @type {Mode} */
  let mode = "rate";
  /** What was shown in this sitting, and where in it one is. @type {string[]} */
  let way = [];
  let at = 0;
  /** @type {[string, string] | null} */
  let two = null;
  /** Rated in this sitting. @type {Set<string>} */
  const done = new Set();
  /** @type {Change[]} */
  let compared = [];
  /** @type {Element | null} */
  let before = null;

  /** Takes the next from the queue where nothing is shown. */
  function fillUp() {
    if (mode === "rate" && at >= way.length) {
      const key = queue.next();
      if (key) way.push(key);
    }
    if (mode === "pairs" && !two) two = queue.nextPair();
  }

  /** @param {number} by */
  function step(by) {
    at = Math.max(0, Math.min(way.length, at + by));
    fillUp();
    paint();
  }

  /** @param {"stars" | "flag"} kind @param {number} value */
  function rate(kind, value) {
    const key = way[at];
    if (!key) return;
    marking.rate([key], kind, value);
    done.add(key);
    step(1);
  }

  /** @param {number} value */
  function answer(value) {
    if (!two) return;
    compared.push(...marking.compare(two[0], two[1], value));
    nextPair();
    queue.renew();
  }

  function nextPair() {
    two = queue.nextPair();
    paint();
  }

  function startAnew() {
    queue.begin();
    way = way.slice(0, at);
    paint();
  }

  function paint() {
    if (element.hidden) return;
    one.element.hidden = mode !== "rate";
    pair.element.hidden = mode !== "pairs";
    const seen = (/** @type {string[]} */ some) => some.map(act.photographOf).filter((photograph) => photograph !== null);
    const key = way[at] ?? "";
    const current = key ? act.photographOf(key) : null;
    if (mode === "rate") one.show(current, ratings.of(key), at > 0, seen(queue.ahead()));
    else pair.show(two ? seen(two) : [], seen(queue.aheadPairs()));
    const isOver = mode === "rate" ? !current : !two;
    setText(message, !isOver ? "" : queue.problem() || (queue.isBusy() ? "Looking for what to rate next…" : mode === "rate" ? "Nothing is left to ask. Of photographs of one moment one is enough." : "No two are left to compare."));
    again.hidden = !isOver || queue.isBusy() || queue.problem() !== "";
    setText(title, TITLES[mode]);
    for (const { mode: name, button } of modes) {
      if (name === mode) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
    const n = [...done].filter((one) => ratings.of(one).stars > 0 || ratings.of(one).flag !== 0).length;
    const nCompared = compared.filter(({ act: number }) => number > 0).length;
    setText(count, `${countOf(n, "photograph rated", "photographs rated")}${nCompared ? `, ${countOf(nCompared, "pair compared", "pairs compared")}` : ""} in this sitting`);
    setText(total, `${worth.rated()} in all`);
    const taste = worth.taste();
    const words = taste ? verdictOf(taste) : "";
    setText(verdict, words && `${words.charAt(0).toUpperCase()}${words.slice(1)}`);
    setText(evidence, taste ? evidenceOf(taste) : "");
    if (keys.dataset.mode !== mode) {
      keys.dataset.mode = mode;
      keys.replaceChildren(h("tbody", {}, ...[...KEYS[mode], ["Ctrl Z", "undo"], ["R", mode === "rate" ? "two at a time" : "one by one"], ["Esc", "back"]].map(([name, does]) => h("tr", {}, h("th", { scope: "row" }, h("kbd", { text: name })), h("td", { text: does })))));
    }
  }

  return {
    isOpen: () => !element.hidden,
    /** @param {Mode} next */
    show(next) {
      const isOpening = element.hidden;
      mode = next;
      if (isOpening) {
        before = document.activeElement;
        element.hidden = false;
        element.focus({ preventScroll: true });
        queue.begin();
        [way, at, two, compared] = [[], 0, null, []];
        done.clear();
      }
      fillUp();
      paint();
    },
    close() {
      if (element.hidden) return;
      element.hidden = true;
      if (before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true });
    },
    paint,
    rate,
    answer,
    step,
    skipPair: nextPair,
    zoom: one.zoom,
    /** Shows again what was undone. @param {Change} change */
    returnTo({ kind, key, other }) {
      if (kind === "pair") {
        if (mode === "pairs") two = [key, other];
      } else if (way.includes(key)) at = way.indexOf(key);
      else way.splice(at, 0, key);
      paint();
    },
  };
}
