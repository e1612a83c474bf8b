/** One photograph in the grid: a picture, and around it only what hover, focus or selection asks for. */

import { thumbnailAddress } from "./api.js";
import { h, icon, setAttribute, setText } from "./dom.js";
import { formatScore } from "./words.js";

/**
 * @typedef {object} TileContent
 * @property {string} key
 * @property {string} name
 * @property {string} label For screen readers.
 * @property {string} colour
 * @property {string} thumb
 * @property {string} version Of the list: a thumbnail that could not be had is asked for again with the next.
 * @property {number} score NaN where there is none.
 * @property {string} reason Why it failed; "" if it did not.
 * @property {string} badge Count and kind of a stack; "" for a single photograph.
 * @property {string} note A word in the corner, as "suggested".
 * @property {boolean} selected
 * @property {boolean} active
 * @property {number} place
 * @property {number} of
 */

/** @typedef {ReturnType<typeof createTile>} Tile */

export function createTile() {
  const image = h("img", { alt: "", decoding: "async", draggable: "false" });
  const tick = h("span", { class: "tick" }, icon("check"));
  const score = h("span", { class: "tile-score" });
  const name = h("span", { class: "tile-name" });
  const caption = h("span", { class: "tile-caption" }, name, score);
  const badge = h("span", { class: "tile-badge" });
  const note = h("span", { class: "tile-note" });
  const reason = h("span", { class: "tile-reason" });
  const element = h("div", { role: "option", class: "tile" }, image, reason, badge, note, caption, tick);
  image.hidden = true;

  let address = "";
  let asked = "";
  image.addEventListener("load", () => {
    if (asked === address) image.hidden = false;
  });
  image.addEventListener("error", () => {
    element.classList.add("without-picture");
    asked = "";
  });
  let version = "";
  let key = "";

  return {
    element,
    key: () => key,
    /**
     * @param {TileContent} content
     * @param {boolean} load Whether the picture may be fetched now.
     */
    show(content, load) {
      element.hidden = false;
      element.id = `tile-${content.place}`;
      const wanted = content.reason ? "" : thumbnailAddress(content.key, content.thumb);
      if (content.key !== key || wanted !== address) {
        const same = content.key === key;
        key = content.key;
        address = wanted;
        if (!same || !wanted) image.hidden = true;
        element.classList.remove("without-picture");
        element.style.backgroundColor = content.reason ? "" : content.colour;
        asked = "";
      }
      const failed = element.classList.contains("without-picture");
      if (load && address && asked !== address && (!failed || version !== content.version)) {
        asked = address;
        element.classList.remove("without-picture");
        image.src = address;
      }
      version = content.version;
      element.classList.toggle("failed", content.reason !== "");
      element.classList.toggle("stack", content.badge !== "");
      element.classList.toggle("active", content.active);
      setText(reason, content.reason);
      setText(badge, content.badge);
      setText(note, content.note);
      setText(name, content.name);
      setText(score, formatScore(content.score));
      setAttribute(element, "aria-label", content.label);
      setAttribute(element, "aria-selected", String(content.selected));
      setAttribute(element, "aria-posinset", String(content.place + 1));
      setAttribute(element, "aria-setsize", String(content.of));
    },
    /** @param {number} x @param {number} y @param {number} width @param {number} height */
    place(x, y, width, height) {
      element.style.transform = `translate(${x}px, ${y}px)`;
      element.style.width = `${width}px`;
      element.style.height = `${height}px`;
    },
    hide() {
      element.hidden = true;
      element.removeAttribute("id");
    },
  };
}
