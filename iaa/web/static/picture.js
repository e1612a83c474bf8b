/** One photograph in the best quality that is here: thumbnail at once, then fitted to the window, then all its pixels. */

import { pictureAddress, thumbnailAddress } from "./api.js";
import { h } from "./dom.js";

/** Long edge of what the program sends for a window. */
const FITTED_EDGE = 2048;

/** @typedef {ReturnType<typeof createPicture>} Picture */

/** @param {(message: string) => void} onProblem "" when all is well. */
export function createPicture(onProblem) {
  const element = h("div", { class: "picture" });
  let address = "";
  /** @type {{key: string, thumb: string, name: string, colour: string, edge: number} | null} */
  let shown = null;
  let fullAsked = false;

  /** @param {string} source @param {string} name @param {boolean} best Whether its failing is worth a word. */
  function addLayer(source, name, best) {
    const wanted = address;
    const image = h("img", { alt: best ? name : "", draggable: "false", src: source });
    image.decode().then(
      () => {
        if (wanted !== address) return;
        // Whichever comes first: the better one lies on top.
        if (best) element.append(image);
        else element.prepend(image);
        onProblem("");
      },
      () => {
        if (wanted === address && best) onProblem("This photograph cannot be shown: its file may have been moved or damaged since.");
      },
    );
  }

  return {
    element,
    /** @param {{key: string, thumb: string, name: string, colour: string, width: number, height: number, state: string}} photograph */
    show({ key, thumb, name, colour, width, height, state }) {
      const next = `${key} ${thumb} ${state === "failed"}`;
      if (next === address) return;
      address = next;
      fullAsked = false;
      shown = { key, thumb, name, colour, edge: Math.max(width, height) };
      element.replaceChildren();
      element.style.backgroundColor = colour;
      onProblem("");
      if (state === "failed") return;
      addLayer(thumbnailAddress(key, thumb), name, false);
      addLayer(pictureAddress(key, thumb, FITTED_EDGE), name, true);
    },
    /** Fetches all pixels once the screen shows more of them than are here. @param {number} scale Screen pixels per pixel. */
    need(scale) {
      if (!shown || fullAsked) return;
      if (shown.edge > FITTED_EDGE && shown.edge * Math.min(1, scale) > FITTED_EDGE * 1.1) {
        fullAsked = true;
        addLayer(pictureAddress(shown.key, shown.thumb, 0), shown.name, true);
      }
    },
  };
}

/** Fetches what will be looked at next. @param {{key: string, thumb: string, state: string}} photograph */
export function preload({ key, thumb, state }) {
  if (state !== "failed") new Image().src = pictureAddress(key, thumb, FITTED_EDGE);
}
