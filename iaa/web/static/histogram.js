/** How values are spread, with a range that can be brushed by pointer or keys. */

import { h, iconButton, setText } from "./dom.js";

/** @typedef {import("./types.js").Range} Range */
/** @typedef {ReturnType<typeof createHistogram>} Histogram */

const BINS = 48;
const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {ArrayLike<number>} values NaN is left out.
 * @param {(row: number) => boolean} passes Which count.
 * @returns {{low: number, high: number, all: Float64Array, passing: Float64Array}}
 */
export function binsOf(values, passes) {
  let low = Infinity;
  let high = -Infinity;
  for (let i = 0; i < values.length; i++) {
    if (values[i] < low) low = values[i];
    if (values[i] > high) high = values[i];
  }
  const all = new Float64Array(BINS);
  const passing = new Float64Array(BINS);
  const width = high > low ? (high - low) / BINS : 1;
  for (let i = 0; i < values.length; i++) {
    if (Number.isNaN(values[i])) continue;
    const bin = Math.min(BINS - 1, Math.floor((values[i] - low) / width));
    all[bin] += 1;
    if (passes(i)) passing[bin] += 1;
  }
  return { low, high, all, passing };
}

/**
 * @param {{title: string, format: (value: number) => string, onRange: (range: Range | null, done: boolean) => void}} options
 */
export function createHistogram({ title, format, onRange }) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${BINS} 100`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const paths = ["all", "passing", "chosen"].map((name) => {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", `bars ${name}`);
    svg.append(path);
    return path;
  });
  const handles = ["From", "To"].map((name, end) =>
    h("div", { class: "brush-handle", role: "slider", tabindex: "0", "aria-label": `${title}, ${name.toLowerCase()}`, onkeydown: (/** @type {KeyboardEvent} */ event) => nudge(event, end) }));
  const plot = h("div", { class: "histogram" }, ...handles);
  plot.prepend(svg);
  const text = h("span", { class: "range-text" });
  const clear = iconButton("close", `Any ${title.toLowerCase()}`, () => onRange(null, true));
  const element = h("div", { class: "brush" }, plot, h("div", { class: "range-line" }, text, clear));

  /** @type {ReturnType<typeof binsOf>} */
  let bins = { low: 0, high: 1, all: new Float64Array(BINS), passing: new Float64Array(BINS) };
  /** @type {Range | null} */
  let range = null;

  /** @param {number} share 0 to 1. */
  const valueAt = (share) => bins.low + (bins.high - bins.low) * share;
  /** @param {number} value */
  const shareOf = (value) => (bins.high > bins.low ? Math.min(1, Math.max(0, (value - bins.low) / (bins.high - bins.low))) : 0);

  /** @param {KeyboardEvent} event @param {number} end */
  function nudge(event, end) {
    const [low, high] = range ?? [bins.low, bins.high];
    const step = (bins.high - bins.low) / BINS;
    const by = { ArrowLeft: -step, ArrowDown: -step, ArrowRight: step, ArrowUp: step, PageDown: -6 * step, PageUp: 6 * step, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Delete" || event.key === "Backspace") onRange(null, true);
    else if (by === undefined) return;
    else {
      const value = Math.min(bins.high, Math.max(bins.low, (end ? high : low) + by));
      finish(end ? [Math.min(low, value), value] : [value, Math.max(high, value)], true);
    }
    event.preventDefault();
    event.stopPropagation();
  }

  /** All of it is no choice. @param {Range} next @param {boolean} done */
  function finish(next, done) {
    onRange(next[0] <= bins.low && next[1] >= bins.high ? null : next, done);
  }

  /** @type {{from: number, move: Range | null, far: boolean} | null} */
  let drag = null;
  /** @param {PointerEvent} event */
  function shareAt(event) {
    const box = plot.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  }
  plot.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || bins.high <= bins.low) return;
    const share = shareAt(event);
    let from = share;
    /** @type {Range | null} */
    let move = null;
    if (range) {
      const [low, high] = [shareOf(range[0]), shareOf(range[1])];
      const near = 8 / plot.clientWidth;
      if (Math.abs(share - low) < near) from = high;
      else if (Math.abs(share - high) < near) from = low;
      else if (share > low && share < high) move = [low - share, high - share];
    }
    drag = { from, move, far: false };
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointermove", (event) => drag && brush(event, false));
  plot.addEventListener("pointerup", (event) => {
    if (!drag) return;
    if (drag.far) brush(event, true);
    else if (range && !drag.move) onRange(null, true);
    drag = null;
  });
  plot.addEventListener("pointercancel", () => {
    drag = null;
  });
  plot.addEventListener("dblclick", () => onRange(null, true));

  /** @param {PointerEvent} event @param {boolean} done */
  function brush(event, done) {
    if (!drag) return;
    const share = shareAt(event);
    if (Math.abs(share - drag.from) * plot.clientWidth > 3) drag.far = true;
    if (!drag.far) return;
    if (drag.move) {
      const [low, high] = [share + drag.move[0], share + drag.move[1]];
      const shift = low < 0 ? -low : high > 1 ? 1 - high : 0;
      finish([valueAt(low + shift), valueAt(high + shift)], done);
    } else finish([valueAt(Math.min(drag.from, share)), valueAt(Math.max(drag.from, share))], done);
  }

  function paint() {
    const most = Math.max(1, ...bins.all);
    const [low, high] = range ?? [-Infinity, Infinity];
    const inside = bins.passing.map((n, bin) => (valueAt((bin + 0.5) / BINS) >= low && valueAt((bin + 0.5) / BINS) <= high ? n : 0));
    paths[0].setAttribute("d", barsOf(bins.all, most));
    paths[1].setAttribute("d", barsOf(bins.passing, most));
    paths[2].setAttribute("d", barsOf(inside, most));
    plot.classList.toggle("ranged", range !== null);
    clear.hidden = range === null;
    const ends = /** @type {Range} */ (range ?? [bins.low, bins.high]);
    const known = bins.low <= bins.high;
    setText(text, known ? `${format(ends[0])} to ${format(ends[1])}` : "");
    handles.forEach((handle, end) => {
      handle.style.left = `${shareOf(ends[end]) * 100}%`;
      handle.setAttribute("aria-valuemin", String(known ? bins.low : 0));
      handle.setAttribute("aria-valuemax", String(known ? bins.high : 0));
      handle.setAttribute("aria-valuenow", String(known ? ends[end] : 0));
      handle.setAttribute("aria-valuetext", known ? format(ends[end]) : "nothing yet");
    });
  }

  return {
    element,
    /** @param {ArrayLike<number>} values @param {(row: number) => boolean} passes All other filters. @param {Range | null} chosen */
    show(values, passes, chosen) {
      bins = binsOf(values, passes);
      range = chosen;
      paint();
    },
  };
}

/** Square roots, so that the rare best ones can still be seen. @param {Float64Array} heights @param {number} most */
function barsOf(heights, most) {
  let path = "";
  heights.forEach((n, bin) => {
    if (n > 0) path += `M${bin + 0.08} 100v-${Math.max(4, 96 * Math.sqrt(n / most)).toFixed(1)}h.84V100z`;
  });
  return path;
}
