/** One photograph in the grid: a picture, and around it only what hover, focus or selection asks for. */

import { thumbnailAddress } from "./api.js";
import { h, icon, setAttribute, setText } from "./dom.js";
import { createBitmapView, loadThumbnail } from "./thumbnails.js";
import { flagName, formatScore, wholeStars } from "./words.js";

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
 * @property {number} stars 0 for none.
 * @property {number} flag 1 picked, -1 rejected, 0 neither.
 * @property {boolean} selected
 * @property {boolean} active
 * @property {number} place
 * @property {number} of
 * @property {number} generation Changes when anything else may have changed.
 */

/** @typedef {ReturnType<typeof createTile>} Tile */

export function createTile() {
  const picture = createBitmapView();
  // The label says all of this in better order.
  const unread = { "aria-hidden": "true" };
  const tick = h("span", { class: "tick", ...unread }, icon("check"));
  const score = h("span", { class: "tile-score" });
  const name = h("span", { class: "tile-name" });
  const caption = h("span", { class: "tile-caption", ...unread }, name, score);
  const badge = h("span", { class: "tile-badge", ...unread });
  const note = h("span", { class: "tile-note", ...unread });
  const reason = h("span", { class: "tile-reason", ...unread });
  const stars = h("span", { class: "small-stars" });
  const flag = h("span", { class: "small-flag" });
  const marks = h("span", { class: "tile-marks", ...unread }, stars, flag);
  const element = h("div", { role: "option", class: "tile" }, picture.element, badge, note, caption, marks, " ", reason, tick);

  let address = "";
  let asked = "";
  let fetching = new AbortController();
  let version = "";
  let key = "";
  let colourShown = "";
  let generation = -1;

  async function load() {
    asked = address;
    fetching = new AbortController();
    const { signal } = fetching;
    try {
      const bitmap = await loadThumbnail(address, signal);
      if (signal.aborted) bitmap.close();
      else picture.show(bitmap);
    } catch {
      if (signal.aborted) return;
      element.classList.add("without-picture");
      asked = "";
    }
  }

  function forget() {
    fetching.abort();
    asked = "";
    element.classList.remove("without-picture");
  }

  return {
    element,
    key: () => key,
    /** Whether it needs no painting. @param {number} now The generation of now. @param {boolean} mayLoad */
    isRight: (now, mayLoad) => generation === now && !element.hidden && (!mayLoad || !address || asked !== "" || element.classList.contains("without-picture")),
    /**
     * @param {TileContent} content
     * @param {boolean} mayLoad Whether the picture may be fetched now.
     */
    show(content, mayLoad) {
      element.hidden = false;
      element.id = `tile-${content.place}`;
      const wanted = content.reason ? "" : thumbnailAddress(content.key, content.thumb);
      if (content.key !== key || wanted !== address) {
        if (content.key !== key || !wanted) picture.clear();
        key = content.key;
        address = wanted;
        forget();
      }
      const colour = content.reason ? "" : content.colour;
      if (colour !== colourShown) {
        colourShown = colour;
        element.style.backgroundColor = colour;
      }
      const failed = element.classList.contains("without-picture");
      if (mayLoad && address && asked !== address && (!failed || version !== content.version)) {
        element.classList.remove("without-picture");
        void load();
      }
      version = content.version;
      generation = content.generation;
      element.classList.toggle("failed", content.reason !== "");
      element.classList.toggle("stack", content.badge !== "");
      element.classList.toggle("active", content.active);
      element.classList.toggle("marked", content.stars > 0 || content.flag !== 0);
      element.classList.toggle("rejected", content.flag < 0);
      setAttribute(stars, "data-n", String(wholeStars(content.stars)));
      setAttribute(flag, "data-flag", flagName(content.flag));
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
      picture.clear();
      forget();
      key = "";
    },
  };
}
