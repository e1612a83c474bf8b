/** Two to four photographs side by side; all look at the same place of their pictures. */

import { byId, h, icon, iconButton, setText } from "./dom.js";
import { createPicture } from "./picture.js";
import { createStars } from "./stars.js";
import { formatPercentile, formatScore } from "./words.js";
import { createFrame, FITTED } from "./zoom.js";

/** @typedef {import("./viewer.js").Photograph} Photograph */
/** @typedef {import("./zoom.js").Sight} Sight */

/**
 * @param {{onClose: () => void, onKeep: (key: string) => void, onDrop: (key: string) => void, onOpen: (key: string) => void, marks: (key: string) => import("./facts.js").Mark[],
 *   onStars: (key: string, n: number) => void, onFlag: (key: string, flag: number) => void, markOf: (key: string) => import("./ratings.js").Mark}} act
 */
export function createCompare(act) {
  const element = byId("compare");
  const table = h("div", { class: "compare-table" });
  const percent = h("button", { type: "button", class: "button", title: "100 % or fitted (Z)", onclick: () => panes[active]?.frame.toggle() });
  element.append(
    h("header", { class: "viewer-bar" }, iconButton("back", "Back to all photographs", () => act.onClose(), "Esc"),
      h("div", { class: "viewer-title" }, h("h1", { class: "viewer-name", id: "compare-name", text: "Compare" })), percent),
    table,
    h("p", { class: "compare-hint quiet" }, "← → choose · K keeps the chosen one · Z 100 % · all pictures move together"),
  );

  /** @type {ReturnType<typeof createPane>[]} */
  let panes = [];
  let active = 0;
  /** @type {Element | null} */
  let before = null;
  let shown = "";

  /** @param {Photograph} photograph @param {number} index */
  function createPane(photograph, index) {
    const stage = h("div", { class: "stage" });
    const message = h("p", { class: "stage-message" });
    const picture = createPicture((problem) => setText(message, problem || (photograph.state === "failed" ? photograph.reason : "")));
    stage.append(picture.element);
    const scale = h("span", { class: "quiet" });
    const marks = act.marks(photograph.key);
    const mark = marks.length && Number.isFinite(marks[0].score) ? marks[0] : null;
    const stars = createStars({ label: `Rate ${photograph.name}`, onStars: (n) => act.onStars(photograph.key, n), onFlag: (flag) => act.onFlag(photograph.key, flag) });
    const pane = h("section", { class: "compare-pane", "aria-label": photograph.name, onpointerdown: () => choose(index) },
      h("div", { class: "stage-frame" }, stage, message),
      h("div", { class: "compare-foot" },
        h("div", { class: "compare-name" }, h("span", { class: "ellipsis", text: photograph.name, title: photograph.name }),
          mark && h("span", { class: "quiet" }, h("strong", { text: formatScore(mark.score) }), ` ${formatPercentile(mark.percentile)}`)),
        stars.element,
        scale,
        h("button", { type: "button", class: "button", title: "Keep this one, the others leave the selection (K)", onclick: () => act.onKeep(photograph.key) }, icon("check"), "Keep"),
        iconButton("close", `Take ${photograph.name} away`, () => act.onDrop(photograph.key))));
    const frame = createFrame(stage, { onSight: (sight) => lookTogether(index, sight) });
    const paintScale = () => {
      setText(scale, `${Math.round(frame.scale() * 100)} %`);
      picture.need(frame.scale());
    };
    return { pane, frame, picture, photograph, paintScale, paintStars: () => stars.show(act.markOf(photograph.key)) };
  }

  /** @param {number} index @param {Sight} sight */
  function lookTogether(index, sight) {
    panes.forEach(({ frame, paintScale }, other) => {
      if (other !== index) frame.follow(sight);
      paintScale();
    });
    setText(percent, sight.zoom > 1.001 && panes[active] ? `${Math.round(panes[active].frame.scale() * 100)} %` : "Fit");
  }

  /** @param {number} index */
  function choose(index) {
    active = Math.max(0, Math.min(panes.length - 1, index));
    panes.forEach(({ pane }, other) => {
      pane.classList.toggle("active", other === active);
      if (other === active) pane.setAttribute("aria-current", "true");
      else pane.removeAttribute("aria-current");
    });
  }

  return {
    element,
    isOpen: () => !element.hidden,
    /** @param {Photograph[]} photographs */
    show(photographs) {
      if (element.hidden) {
        before = document.activeElement;
        element.hidden = false;
        element.focus({ preventScroll: true });
      }
      const content = photographs.map(({ key, thumb, state }) => `${key} ${thumb} ${state}`).join("|");
      if (content === shown) {
        for (const { paintStars } of panes) paintStars();
        return;
      }
      shown = content;
      panes = photographs.map(createPane);
      table.replaceChildren(...panes.map(({ pane }) => pane));
      table.dataset.n = String(panes.length);
      for (const { frame, picture, photograph, paintStars } of panes) {
        paintStars();
        picture.show(photograph);
        frame.hold([picture.element], photograph.width, photograph.height);
      }
      choose(Math.min(active, panes.length - 1));
      lookTogether(-1, FITTED);
      panes.forEach(({ frame }) => frame.follow(FITTED));
    },
    close() {
      if (element.hidden) return;
      element.hidden = true;
      shown = "";
      panes = [];
      active = 0;
      table.replaceChildren();
      if (before instanceof HTMLElement) before.focus({ preventScroll: true });
    },
    /** @param {number} by */
    step: (by) => choose(active + by),
    key: () => panes[active]?.photograph.key ?? "",
    keep() {
      if (panes[active]) act.onKeep(panes[active].photograph.key);
    },
    open() {
      if (panes[active]) act.onOpen(panes[active].photograph.key);
    },
    zoom: () => panes[active]?.frame,
  };
}
