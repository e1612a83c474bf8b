/** The justified layout: rows of equal height that fill the width, proportions kept. Pure. */

/**
 * @typedef {object} Layout
 * @property {Float32Array} x Left edge of each item.
 * @property {Float32Array} width Of each item.
 * @property {Int32Array} line The line that each item is in.
 * @property {Int32Array} start First item of each line, and one past the last.
 * @property {Float64Array} y Top of each line.
 * @property {Float32Array} height Of each line.
 * @property {{y: number, heading: import("./types.js").Heading}[]} headings
 * @property {number} total Height of it all.
 */

/** Proportions beyond these are cropped in the grid: a strip of a few pixels shows nothing. */
const SLIMMEST = 0.4;
const WIDEST = 8;

/**
 * @param {ArrayLike<number>} ratios Width / height of each item.
 * @param {{width: number, target: number, gap: number, most?: number, headingHeight: number, headings: import("./types.js").Heading[]}} frame
 * @returns {Layout}
 */
export function justify(ratios, { width, target, gap, most = Infinity, headingHeight, headings }) {
  const n = ratios.length;
  const x = new Float32Array(n);
  const widths = new Float32Array(n);
  const line = new Int32Array(n);
  const start = [];
  const ys = [];
  const heights = [];
  const placed = [];
  let y = 0;
  let item = 0;
  let next = 0;
  while (item < n) {
    if (next < headings.length && headings[next].at === item) {
      placed.push({ y, heading: headings[next] });
      y += headingHeight;
      next += 1;
    }
    const limit = next < headings.length ? headings[next].at : n;
    const { end, sum } = fillLine(ratios, item, limit, width, target, gap, most);
    const free = width - gap * (end - item - 1);
    // A last line that is not full keeps the usual height; one that would be too wide shrinks.
    const full = end < limit || end - item === most || sum * target >= free * 0.92;
    const height = full ? free / sum : Math.min(target, free / sum);
    let left = 0;
    for (let i = item; i < end; i++) {
      x[i] = left;
      widths[i] = clamp(ratios[i]) * height;
      line[i] = start.length;
      left += widths[i] + gap;
    }
    start.push(item);
    ys.push(y);
    heights.push(height);
    y += height + gap;
    item = end;
  }
  start.push(n);
  return {
    x, width: widths, line, start: Int32Array.from(start), y: Float64Array.from(ys), height: Float32Array.from(heights),
    headings: placed, total: Math.max(0, y - gap),
  };
}

/** @param {number} ratio */
const clamp = (ratio) => Math.min(WIDEST, Math.max(SLIMMEST, ratio));

/**
 * Where a line ends: with or without the item that makes it full, whichever is nearer to the target height.
 * @param {ArrayLike<number>} ratios @param {number} from @param {number} limit @param {number} width @param {number} target @param {number} gap @param {number} most Items of one line.
 */
function fillLine(ratios, from, limit, width, target, gap, most) {
  let sum = 0;
  for (let i = from; i < limit; i++) {
    const before = sum;
    sum += clamp(ratios[i]);
    const free = width - gap * (i - from);
    if (i - from + 1 >= most) return { end: i + 1, sum };
    if (sum * target < free) continue;
    if (i === from) return { end: i + 1, sum };
    const withIt = target - free / sum;
    const without = (free + gap) / before - target;
    return withIt <= without ? { end: i + 1, sum } : { end: i, sum: before };
  }
  return { end: limit, sum };
}

/** The first line that ends below y. @param {Layout} layout @param {number} y */
export function lineAt(layout, y) {
  let low = 0;
  let high = layout.y.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (layout.y[middle] + layout.height[middle] < y) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The item one line up (-1) or down (1) that lies nearest. @param {Layout} layout @param {number} item @param {number} step */
export function itemBeside(layout, item, step) {
  const target = layout.line[item] + step;
  if (target < 0 || target >= layout.y.length) return item;
  const centre = layout.x[item] + layout.width[item] / 2;
  let best = layout.start[target];
  for (let i = best; i < layout.start[target + 1]; i++) {
    const distance = Math.abs(layout.x[i] + layout.width[i] / 2 - centre);
    if (distance < Math.abs(layout.x[best] + layout.width[best] / 2 - centre)) best = i;
  }
  return best;
}
