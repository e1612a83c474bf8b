/** One photograph that fills the window, its neighbours below, its facts beside it. */

import { byId, h, icon, iconButton, setText } from "./dom.js";
import { paintFacts } from "./facts.js";
import { createFilmstrip } from "./filmstrip.js";
import { createPicture, preload } from "./picture.js";
import { createStars } from "./stars.js";
import { formatCount, formatScore } from "./words.js";
import { createFrame, FITTED } from "./zoom.js";

/**
 * @typedef {object} Photograph One row of the list.
 * @property {string} key
 * @property {string} name
 * @property {string} thumb
 * @property {string} colour
 * @property {number} width
 * @property {number} height
 * @property {string} state
 * @property {string} reason
 */

/**
 * @typedef {object} Film What can be walked through.
 * @property {number} length
 * @property {(item: number) => Photograph} at
 */

/** @typedef {ReturnType<typeof createViewer>} Viewer */

const FACTS_OPEN = "facts open";

/**
 * @param {{
 *   onMove: (item: number) => void, onClose: () => void, onAlike: (key: string) => void, onGroup: (key: string) => void,
 *   onSelect: (key: string) => void, onWord: (text: string) => void, reveal: ((key: string) => void) | null,
 *   onStars: (n: number) => void, onFlag: (flag: number) => void, markOf: (key: string) => import("./ratings.js").Mark,
 *   facts: (key: string) => Promise<import("./types.js").Facts>,
 *   marks: (key: string) => import("./facts.js").Mark[], groupText: (key: string) => string, isSelected: (key: string) => boolean,
 * }} act
 */
export function createViewer(act) {
  const element = byId("viewer");
  const name = h("h1", { class: "viewer-name", id: "viewer-name" });
  const place = h("span", { class: "quiet" });
  const score = h("span", { class: "viewer-score" });
  const zoomButton = h("button", { type: "button", class: "button", title: "100 % or fitted (Z)", onclick: () => frame.toggle() });
  const selectButton = h("button", { type: "button", class: "button", title: "Select (Space)", onclick: () => act.onSelect(current.key) }, icon("check"), h("span", { text: "Select" }));
  const factsButton = iconButton("facts", "Facts", () => toggleFacts(), "I");
  const stage = h("div", { class: "stage" });
  const message = h("p", { class: "stage-message", role: "status" });
  const previous = h("button", { type: "button", class: "stage-step previous", "aria-label": "Previous photograph", onclick: () => step(-1) }, icon("back"));
  const next = h("button", { type: "button", class: "stage-step next", "aria-label": "Next photograph", onclick: () => step(1) }, icon("next"));
  const strip = h("div", { class: "filmstrip", "aria-hidden": "true" });
  const stars = createStars({ label: "Rate this photograph", onStars: act.onStars, onFlag: act.onFlag });
  const panel = h("aside", { class: "facts", "aria-label": "Facts" });
  element.append(
    h("header", { class: "viewer-bar" }, iconButton("back", "Back to all photographs", () => act.onClose(), "Esc"), h("div", { class: "viewer-title" }, name, place), score, zoomButton, selectButton,
      h("button", { type: "button", class: "button wide-only", title: "More like this (L)", onclick: () => act.onAlike(current.key) }, icon("alike"), "More like this"), factsButton),
    h("div", { class: "viewer-middle" }, h("div", { class: "viewer-stage" }, h("div", { class: "stage-frame" }, stage, message, previous, next), h("div", { class: "rate-bar" }, stars.element)), panel),
    strip,
  );

  const picture = createPicture((problem) => setText(message, problem || failure()));
  stage.append(picture.element);
  const frame = createFrame(stage, {
    onSight: () => {
      picture.need(frame.scale());
      setText(zoomButton, frame.isZoomed() ? `${Math.round(frame.scale() * 100)} %` : "Fit");
    },
    onSwipe: (by) => step(by),
    onDrag: (dx) => {
      picture.element.style.left = `${dx}px`;
    },
  });
  const film = createFilmstrip(strip, (at) => act.onMove(at));

  /** @type {Photograph} */
  let current = { key: "", name: "", thumb: "", colour: "", width: 0, height: 0, state: "", reason: "" };
  /** @type {Film} */
  let walk = { length: 0, at: () => current };
  let item = 0;
  let way = 1;
  /** @type {import("./types.js").Facts | null} */
  let known = null;
  let problem = "";
  let knownFor = "";
  /** @type {Element | null} */
  let before = null;

  const failure = () => (current.state === "failed" ? `This photograph could not be read: ${current.reason}` : "");

  /** @param {number} by */
  function step(by) {
    const at = item + by;
    if (at < 0 || at >= walk.length) return;
    way = by;
    item = at;
    act.onMove(at);
  }

  function toggleFacts(open = panel.hidden) {
    panel.hidden = !open;
    factsButton.setAttribute("aria-pressed", String(open));
    localStorage.setItem(FACTS_OPEN, open ? "1" : "0");
    paint();
  }
  panel.hidden = (localStorage.getItem(FACTS_OPEN) ?? (innerWidth > 900 ? "1" : "0")) !== "1";
  factsButton.setAttribute("aria-pressed", String(!panel.hidden));

  function paint() {
    setText(name, current.name);
    setText(place, walk.length ? `${formatCount(item + 1)} of ${formatCount(walk.length)}` : "");
    const marks = act.marks(current.key);
    setText(score, marks.length ? formatScore(marks[0].score) : "");
    score.title = marks.length ? marks[0].title : "";
    stars.show(act.markOf(current.key));
    const selected = act.isSelected(current.key);
    selectButton.setAttribute("aria-pressed", String(selected));
    setText(/** @type {Element} */ (selectButton.lastChild), selected ? "Selected" : "Select");
    previous.disabled = item <= 0;
    next.disabled = item >= walk.length - 1;
    if (panel.hidden) return;
    paintFacts(panel, { facts: known, name: current.name, marks, groupText: act.groupText(current.key), problem }, {
      onAlike: () => act.onAlike(current.key),
      onGroup: () => act.onGroup(current.key),
      onReveal: act.reveal && (() => act.reveal?.(current.key)),
      onWord: act.onWord,
    });
  }

  /** @param {string} key @param {string} content */
  async function fetchFacts(key, content) {
    if (knownFor === content) return;
    knownFor = content;
    known = null;
    problem = "";
    try {
      const facts = await act.facts(key);
      if (knownFor === content) known = facts;
    } catch (error) {
      if (knownFor !== content) return;
      problem = error instanceof Error ? error.message : String(error);
      knownFor = "";
    }
    if (!element.hidden) paint();
  }

  return {
    element,
    isOpen: () => !element.hidden,
    /** @param {Film} next @param {number} at */
    show(next, at) {
      const was = current.key;
      walk = next;
      item = at;
      current = walk.at(at);
      if (element.hidden) {
        before = document.activeElement;
        element.hidden = false;
        element.focus({ preventScroll: true });
      }
      picture.show(current);
      if (was !== current.key) frame.look(FITTED);
      frame.hold([picture.element], current.width, current.height);
      frame.look(frame.sight());
      setText(message, failure());
      film.show(walk, item);
      void fetchFacts(current.key, `${current.key} ${current.thumb} ${current.state}`);
      paint();
      for (const by of [way, -way, 2 * way]) if (item + by >= 0 && item + by < walk.length) preload(walk.at(item + by));
    },
    close() {
      if (element.hidden) return;
      element.hidden = true;
      current = { ...current, key: "" };
      if (before instanceof HTMLElement) before.focus({ preventScroll: true });
    },
    repaint: paint,
    step,
    toggleFacts: () => toggleFacts(),
    zoom: frame,
    key: () => current.key,
  };
}
