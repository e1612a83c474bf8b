/** Two photographs side by side: which is the better one? */

import { h } from "./dom.js";
import { createPicture, preload } from "./picture.js";
import { createFrame, FITTED } from "./zoom.js";

/** @typedef {import("./viewer.js").Photograph} Photograph */

/** @param {{onAnswer: (value: number) => void, onSkip: () => void}} act `value` is 1: the left one, -1: the right one, 0: they are equal. */
export function createRatePair(act) {
  const sides = /** @type {const} */ ([["Left", "Upper", "A", 1], ["Right", "Lower", "B", -1]]).map(([name, stacked, key, value]) => {
    const message = h("p", { class: "stage-message" });
    const picture = createPicture((problem) => message.replaceChildren(problem));
    const stage = h("div", { class: "stage" }, picture.element);
    const frame = createFrame(stage, { onSight: () => picture.need(frame.scale()) });
    const button = h("button", { type: "button", class: "button side", title: `This one is better (${key})`, onclick: () => act.onAnswer(value) }, h("kbd", { text: key, "aria-hidden": "true" }), h("span", { class: "when-beside", text: `${name} is better` }), h("span", { class: "when-stacked", text: `${stacked} is better` }));
    return { picture, frame, button, pane: h("section", { class: "rate-pane", "aria-label": `Photograph ${key}` }, h("div", { class: "stage-frame" }, stage, message)) };
  });
  const equal = h("button", { type: "button", class: "button", title: "They are equal (=)", text: "Equal", onclick: () => act.onAnswer(0) });
  const skip = h("button", { type: "button", class: "button", title: "Say nothing about them (→ or S)", text: "Skip", onclick: act.onSkip });
  const buttons = [sides[0].button, equal, skip, sides[1].button];
  let shown = "";
  return {
    element: h("div", { class: "rate-pair" }, h("div", { class: "rate-panes" }, ...sides.map(({ pane }) => pane)), h("div", { class: "rate-bar" }, ...buttons)),
    /** @param {Photograph[]} two Two, or none. @param {Photograph[]} next */
    show(two, next) {
      for (const button of buttons) button.disabled = two.length < 2;
      for (const one of next) preload(one);
      const content = two.map(({ key, thumb }) => `${key} ${thumb}`).join(" ");
      const isNew = content !== shown;
      shown = content;
      sides.forEach(({ picture, frame }, place) => {
        const photograph = two[place];
        picture.element.hidden = !photograph;
        if (!photograph) return;
        picture.show(photograph);
        if (isNew) frame.look(FITTED);
        frame.hold([picture.element], photograph.width, photograph.height);
      });
    },
  };
}
