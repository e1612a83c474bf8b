/** The neighbours of the open photograph below it, for the pointer; keys and screen readers move by arrows. */

import { thumbnailAddress } from "./api.js";
import { h } from "./dom.js";

const STEP = 76;

/** @param {HTMLElement} element @param {(item: number) => void} onChoose */
export function createFilmstrip(element, onChoose) {
  const track = h("div", { class: "film-track" });
  element.append(track);
  /** @type {Map<number, HTMLElement>} */
  let frames = new Map();
  /** @type {{length: number, at: (item: number) => {key: string, thumb: string, colour: string, state: string}}} */
  let film = { length: 0, at: () => ({ key: "", thumb: "", colour: "", state: "" }) };
  let current = 0;
  let painting = 0;

  function paint() {
    const first = Math.max(0, Math.floor(element.scrollLeft / STEP) - 4);
    const last = Math.min(film.length - 1, Math.ceil((element.scrollLeft + element.clientWidth) / STEP) + 4);
    /** @type {Map<number, HTMLElement>} */
    const next = new Map();
    for (let item = first; item <= last; item++) {
      const { key, thumb, colour, state } = film.at(item);
      let frame = frames.get(item);
      if (!frame || frame.dataset.key !== key) {
        const image = state === "failed" ? null : h("img", { alt: "", draggable: "false", src: thumbnailAddress(key, thumb) });
        frame = h("div", { class: "film-frame", "data-key": key, "data-item": item }, image);
        frame.style.backgroundColor = colour;
        frame.style.transform = `translateX(${item * STEP}px)`;
        track.append(frame);
      } else frames.delete(item);
      frame.classList.toggle("active", item === current);
      next.set(item, frame);
    }
    for (const frame of frames.values()) frame.remove();
    frames = next;
  }

  element.addEventListener("scroll", () => {
    if (painting) return;
    painting = requestAnimationFrame(() => {
      painting = 0;
      paint();
    });
  }, { passive: true });
  element.addEventListener("click", (event) => {
    const frame = event.target instanceof Element ? event.target.closest(".film-frame") : null;
    if (frame instanceof HTMLElement) onChoose(Number(frame.dataset.item));
  });
  new ResizeObserver(() => centre()).observe(element);

  function centre() {
    element.scrollLeft = current * STEP + STEP / 2 - element.clientWidth / 2;
    paint();
  }

  return {
    /** @param {typeof film} next @param {number} item */
    show(next, item) {
      film = next;
      current = item;
      track.style.width = `${film.length * STEP}px`;
      centre();
    },
  };
}
