/**
 * The library as points that lie near each other where photographs look alike; thumbnails where there is room. The one under
 * the pointer stands out: the keys that rate are about it.
 */

import { thumbnailAddress } from "./api.js";
import { byId, h, iconButton, setText } from "./dom.js";
import { drawMark } from "./map-mark.js";
import { loadThumbnail } from "./thumbnails.js";
import { markWords } from "./words.js";

/** @typedef {import("./viewer.js").Photograph} Photograph */

/**
 * @typedef {object} MapContent
 * @property {number} length
 * @property {(point: number) => Photograph} at Best first: where two would cover each other the first is drawn.
 * @property {Float64Array} x 0 to 1.
 * @property {Float64Array} y
 * @property {(point: number) => boolean} passes Whether it passes the filters.
 * @property {(key: string) => boolean} isSelected
 * @property {(key: string) => import("./ratings.js").Mark} markOf
 */

const KEPT_PICTURES = 600;
const PICTURE_EDGE = 160;
const AT_ONCE = 8;
/** Pixels that a pointer has to go after an outline was drawn to mean the photograph that it is on. */
const MEANT = 8;

/** @param {{onOpen: (key: string) => void, onSelect: (keys: string[], add: boolean) => void}} act */
export function createMap(act) {
  const element = byId("map");
  const canvas = h("canvas", { tabindex: "0", role: "img", "aria-label": "Map of the photographs: those that look alike lie together. Arrows move, plus and minus zoom, A selects what is in view, 1 to 5 rate what is selected or under the pointer." });
  const regionButton = iconButton("lasso", "Draw around photographs to select them", () => setRegion(!drawing), "R");
  const message = h("p", { class: "stage-message", role: "status" });
  const label = h("p", { class: "map-label", hidden: true, "aria-hidden": "true" });
  element.append(canvas, label, message, h("div", { class: "map-tools" }, regionButton,
    iconButton("plus", "Nearer", () => zoom(1.5), "+"), iconButton("minus", "Farther", () => zoom(1 / 1.5), "\u2212"), iconButton("fit", "All of it", () => fit(), "Home")));
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));

  /** @type {MapContent} */
  let content = { length: 0, at: () => { throw new Error("no points"); }, x: new Float64Array(0), y: new Float64Array(0), passes: () => false, isSelected: () => false, markOf: () => ({ stars: 0, flag: 0 }) };
  let view = { scale: 1, x: 0.5, y: 0.5 };
  let drawing = false;
  /** @type {{x: number, y: number}[]} */
  let outline = [];
  /** @type {{point: number, left: number, top: number, width: number, height: number}[]} */
  let drawn = [];
  let frame = 0;
  /** Where the pointer rests, if it means a photograph there. @type {{x: number, y: number} | null} */
  let pointer = null;
  /** Where an outline ended. @type {{x: number, y: number} | null} */
  let ended = null;
  /** @type {Map<string, ImageBitmap | null>} null: on its way. */
  const pictures = new Map();
  let loading = 0;
  /** @type {Photograph[]} */
  let queue = [];

  const side = () => Math.max(100, Math.min(canvas.clientWidth, canvas.clientHeight * 1.6) * 0.86) * view.scale;
  const sideY = () => side() * Math.min(1, canvas.clientHeight / canvas.clientWidth);
  /** @param {number} point */
  const screen = (point) => ({ x: canvas.clientWidth / 2 + (content.x[point] - view.x) * side(), y: canvas.clientHeight / 2 + (content.y[point] - view.y) * sideY() });

  function redraw() {
    if (!frame && !element.hidden) frame = requestAnimationFrame(() => {
      frame = 0;
      draw();
    });
  }

  function draw() {
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    const density = devicePixelRatio;
    if (canvas.width !== Math.round(width * density) || canvas.height !== Math.round(height * density)) {
      canvas.width = Math.round(width * density);
      canvas.height = Math.round(height * density);
    }
    const style = getComputedStyle(element);
    // As the style sheet has made colours of them: a canvas does not know what light-dark() is.
    const [accent, text] = [style.outlineColor, style.color];
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, height);
    const edge = Math.min(PICTURE_EDGE, (width < 600 ? 44 : width < 1600 ? 64 : 84) * Math.sqrt(view.scale));
    const isFree = createRoom(edge);
    drawn = [];
    queue = [];
    /** @type {{x: number, y: number, point: number}[]} */
    const large = [];
    for (let point = 0; point < content.length; point++) {
      const { x, y } = screen(point);
      if (x < -edge || y < -edge || x > width + edge || y > height + edge) continue;
      const passes = content.passes(point);
      if (passes && isFree(x, y)) large.push({ x, y, point });
      else {
        context.globalAlpha = passes ? 0.9 : 0.18;
        context.fillStyle = passes ? content.at(point).colour || "#888" : "#888";
        context.fillRect(x - 2.5, y - 2.5, 5, 5);
      }
    }
    context.globalAlpha = 1;
    for (const { x, y, point } of large) drawPicture(x, y, point, edge, accent);
    const under = pointer && hitAt(pointer);
    if (under) {
      const { x, y } = screen(under.point);
      drawPicture(x, y, under.point, edge, accent);
      context.strokeStyle = text;
      context.lineWidth = 2;
      context.strokeRect(under.left - 2, under.top - 2, under.width + 4, under.height + 4);
    }
    canvas.classList.toggle("over", Boolean(under));
    paintLabel(under ?? null);
    if (outline.length > 1) {
      context.beginPath();
      for (const { x, y } of outline) context.lineTo(x, y);
      context.closePath();
      context.strokeStyle = accent;
      context.lineWidth = 2;
      context.stroke();
      context.globalAlpha = 0.15;
      context.fillStyle = accent;
      context.fill();
      context.globalAlpha = 1;
    }
    loadMore();
  }

  /** @param {number} x @param {number} y @param {number} point @param {number} edge @param {string} accent */
  function drawPicture(x, y, point, edge, accent) {
    const photograph = content.at(point);
    const ratio = photograph.width && photograph.height ? Math.min(3, Math.max(1 / 3, photograph.width / photograph.height)) : 1.5;
    const width = ratio >= 1 ? edge : edge * ratio;
    const height = ratio >= 1 ? edge / ratio : edge;
    const [left, top] = [x - width / 2, y - height / 2];
    const mark = content.markOf(photograph.key);
    drawn.push({ point, left, top, width, height });
    context.globalAlpha = mark.flag < 0 ? 0.35 : 1;
    const picture = pictures.get(photograph.key);
    if (picture) {
      context.drawImage(picture, left, top, width, height);
      pictures.delete(photograph.key);
      pictures.set(photograph.key, picture);
    } else {
      context.fillStyle = photograph.colour || "#888";
      context.fillRect(left, top, width, height);
      if (picture === undefined) queue.push(photograph);
    }
    context.globalAlpha = 1;
    drawMark(context, mark, left, top + height, width);
    if (content.isSelected(photograph.key)) {
      context.strokeStyle = accent;
      context.lineWidth = 3;
      context.strokeRect(left + 1.5, top + 1.5, width - 3, height - 3);
    }
  }

  /** What the photograph under the pointer is called, and how it is rated. @param {typeof drawn[0] | null} under */
  function paintLabel(under) {
    label.hidden = !under;
    if (!under) return;
    const { key, name } = content.at(under.point);
    const { stars, flag } = content.markOf(key);
    setText(label, [name, ...markWords(stars, flag)].join(" \u00b7 "));
    const left = Math.max(4, Math.min(canvas.clientWidth - label.offsetWidth - 4, under.left + (under.width - label.offsetWidth) / 2));
    const below = under.top + under.height + 6;
    const top = below + label.offsetHeight < canvas.clientHeight ? below : under.top - label.offsetHeight - 6;
    label.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }

  function loadMore() {
    while (loading < AT_ONCE && queue.length) {
      const photograph = /** @type {Photograph} */ (queue.shift());
      if (pictures.has(photograph.key)) continue;
      loading += 1;
      pictures.set(photograph.key, null);
      void load(photograph).finally(() => {
        loading -= 1;
        redraw();
      });
    }
    for (const [key, picture] of pictures) {
      if (pictures.size <= KEPT_PICTURES) break;
      if (!picture) continue;
      picture.close();
      pictures.delete(key);
    }
  }

  /** @param {Photograph} photograph */
  async function load({ key, thumb }) {
    try {
      const whole = await loadThumbnail(thumbnailAddress(key, thumb), new AbortController().signal);
      const scale = Math.min(1, (PICTURE_EDGE * Math.min(2, devicePixelRatio)) / Math.max(whole.width, whole.height));
      pictures.set(key, await createImageBitmap(whole, { resizeWidth: Math.max(1, Math.round(whole.width * scale)), resizeHeight: Math.max(1, Math.round(whole.height * scale)), resizeQuality: "medium" }));
      whole.close();
    } catch {
      // It stays a patch of its colour.
    }
  }

  /** @param {number} factor @param {{x: number, y: number}} [at] */
  function zoom(factor, at = { x: canvas.clientWidth / 2, y: canvas.clientHeight / 2 }) {
    const [dx, dy] = [at.x - canvas.clientWidth / 2, at.y - canvas.clientHeight / 2];
    const before = [dx / side(), dy / sideY()];
    view = { ...view, scale: Math.min(200, Math.max(0.6, view.scale * factor)) };
    view = { ...view, x: view.x + before[0] - dx / side(), y: view.y + before[1] - dy / sideY() };
    redraw();
  }

  function fit() {
    view = { scale: 1, x: 0.5, y: 0.5 };
    redraw();
  }

  /** @param {boolean} on */
  function setRegion(on) {
    drawing = on;
    regionButton.setAttribute("aria-pressed", String(on));
    canvas.classList.toggle("drawing", on);
  }

  /** @param {{clientX: number, clientY: number}} event */
  function at(event) {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }
  /** @param {{x: number, y: number}} place */
  function hitAt({ x, y }) {
    return drawn.findLast((one) => x >= one.left && x <= one.left + one.width && y >= one.top && y <= one.top + one.height);
  }
  /** @param {{x: number, y: number} | null} place */
  function keyAt(place) {
    const hit = place && hitAt(place);
    return hit ? content.at(hit.point).key : "";
  }

  /** @type {Map<number, {x: number, y: number}>} */
  const pointers = new Map();
  let moved = false;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    pointers.set(event.pointerId, at(event));
    canvas.setPointerCapture(event.pointerId);
    moved = false;
    outline = (drawing || event.shiftKey) && pointers.size === 1 ? [at(event)] : [];
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    const now = at(event);
    if (!before) {
      // The hand that has just drawn around some means these, not what it happens to lie on.
      if (ended && Math.hypot(now.x - ended.x, now.y - ended.y) < MEANT) return;
      ended = null;
      const key = keyAt(pointer);
      pointer = event.pointerType === "touch" ? null : now;
      if (keyAt(pointer) !== key) redraw();
      return;
    }
    if (Math.hypot(now.x - before.x, now.y - before.y) > 2) moved = true;
    if (!moved) return;
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const [was, is] = [Math.hypot(before.x - other.x, before.y - other.y), Math.hypot(now.x - other.x, now.y - other.y)];
      if (was > 0) zoom(is / was, { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
    } else if (outline.length) {
      pointer = null;
      outline.push(now);
    }
    else {
      pointer = null;
      view = { ...view, x: view.x - (now.x - before.x) / side(), y: view.y - (now.y - before.y) / sideY() };
    }
    pointers.set(event.pointerId, now);
    redraw();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (outline.length > 2) {
      const region = outline;
      act.onSelect(keysWhere((point) => content.passes(point) && contains(region, screen(point))), event.ctrlKey || event.metaKey);
      setRegion(false);
      ended = at(event);
    } else if (!moved) {
      const key = keyAt(at(event));
      if (key && event.pointerType === "touch") act.onOpen(key);
      else act.onSelect(key ? [key] : [], event.ctrlKey || event.metaKey);
    }
    outline = [];
    redraw();
  });
  canvas.addEventListener("pointercancel", (event) => {
    pointers.delete(event.pointerId);
    outline = [];
    redraw();
  });
  canvas.addEventListener("pointerleave", () => {
    pointer = null;
    redraw();
  });
  canvas.addEventListener("dblclick", (event) => {
    const key = keyAt(at(event));
    if (key) act.onOpen(key);
  });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.deltaMode === 1 ? 30 : 1) * 0.002), at(event));
  }, { passive: false });
  new ResizeObserver(redraw).observe(element);
  addEventListener("theme", redraw);

  /** @param {(point: number) => boolean} wanted */
  function keysWhere(wanted) {
    const keys = [];
    for (let point = 0; point < content.length; point++) if (wanted(point)) keys.push(content.at(point).key);
    return keys;
  }

  return {
    /** @param {MapContent} next @param {string} text Instead of a map that is not there. */
    show(next, text) {
      content = next;
      message.textContent = text;
      redraw();
    },
    redraw,
    /** The photograph under the pointer, "" for none. */
    under: () => keyAt(pointer),
    zoom,
    fit,
    focus: () => canvas.focus({ preventScroll: true }),
    toggleRegion: () => setRegion(!drawing),
    /** @param {number} x @param {number} y Shares of the window. */
    pan(x, y) {
      view = { ...view, x: view.x + (x * canvas.clientWidth) / side(), y: view.y + (y * canvas.clientHeight) / sideY() };
      redraw();
    },
    selectVisible() {
      act.onSelect(keysWhere((point) => {
        const { x, y } = screen(point);
        return content.passes(point) && x >= 0 && y >= 0 && x <= canvas.clientWidth && y <= canvas.clientHeight;
      }), false);
    },
  };
}

/**
 * Says of one place after the other whether a picture there would hardly cover those before it; if so, it is taken.
 * @param {number} edge @returns {(x: number, y: number) => boolean}
 */
function createRoom(edge) {
  /** @type {Map<number, {x: number, y: number}[]>} */
  const cells = new Map();
  const cellOf = (/** @type {number} */ column, /** @type {number} */ row) => column * 8192 + row;
  return (x, y) => {
    const [column, row] = [Math.floor(x / edge) + 2, Math.floor(y / edge) + 2];
    for (let dx = -1; dx <= 1; dx++) {
      for (let dy = -1; dy <= 1; dy++) {
        for (const other of cells.get(cellOf(column + dx, row + dy)) ?? []) {
          if (Math.abs(other.x - x) < edge * 0.94 && Math.abs(other.y - y) < edge * 0.74) return false;
        }
      }
    }
    const cell = cellOf(column, row);
    cells.set(cell, [...(cells.get(cell) ?? []), { x, y }]);
    return true;
  };
}

/** Whether a point is inside an outline. @param {{x: number, y: number}[]} outline @param {{x: number, y: number}} point */
export function contains(outline, { x, y }) {
  let inside = false;
  for (let i = 0, j = outline.length - 1; i < outline.length; j = i++) {
    const [a, b] = [outline[i], outline[j]];
    if (a.y > y !== b.y > y && x < ((b.x - a.x) * (y - a.y)) / (b.y - a.y) + a.x) inside = !inside;
  }
  return inside;
}
