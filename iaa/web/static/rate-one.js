/** One photograph after the other, to be rated. */

import { h } from "./dom.js";
import { createPicture, preload } from "./picture.js";
import { createStars } from "./stars.js";
import { createFrame, FITTED } from "./zoom.js";

/** @typedef {import("./viewer.js").Photograph} Photograph */

/**
 * @param {{onStars: (n: number) => void, onFlag: (flag: number) => void, onStep: (by: number) => void}} act
 */
export function createRateOne(act) {
  const message = h("p", { class: "stage-message" });
  const picture = createPicture((problem) => message.replaceChildren(problem));
  const stage = h("div", { class: "stage" }, picture.element);
  const frame = createFrame(stage, {
    onSight: () => picture.need(frame.scale()),
    onSwipe: act.onStep,
    onDrag: (dx) => {
      picture.element.style.left = `${dx}px`;
    },
  });
  const stars = createStars({ label: "Rate this photograph", onStars: act.onStars, onFlag: act.onFlag });
  const back = h("button", { type: "button", class: "button", text: "Back", title: "The one before (←)", onclick: () => act.onStep(-1) });
  const skip = h("button", { type: "button", class: "button", text: "Skip", title: "Say nothing about it (→ or S)", onclick: () => act.onStep(1) });
  let shown = "";
  return {
    element: h("div", { class: "rate-one" }, h("div", { class: "stage-frame" }, stage, message), h("div", { class: "rate-bar" }, back, stars.element, skip)),
    zoom: frame,
    /** @param {Photograph | null} photograph @param {import("./ratings.js").Mark} mark @param {boolean} hasBefore @param {Photograph[]} next */
    show(photograph, mark, hasBefore, next) {
      picture.element.hidden = !photograph;
      for (const button of [...stars.element.querySelectorAll("button"), skip]) button.disabled = !photograph;
      back.disabled = !hasBefore;
      stars.show(mark);
      for (const one of next) preload(one);
      if (!photograph) {
        shown = "";
        return;
      }
      picture.show(photograph);
      if (shown !== photograph.key) frame.look(FITTED);
      shown = photograph.key;
      frame.hold([picture.element], photograph.width, photograph.height);
    },
  };
}
