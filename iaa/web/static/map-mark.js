/** How a photograph on the map is rated, drawn at its foot: the stars and flags of the grid, on a canvas. */

import { wholeStars } from "./words.js";

/** On a field of 16 by 16, as in star.svg, pick.svg and reject.svg. */
const STAR = new Path2D("M8 1.3l2 4.2 4.6.6-3.4 3.2.9 4.6L8 11.6l-4.1 2.3.9-4.6L1.4 6.1 6 5.5z");
const PICK = new Path2D("M3 15V1.5h10l-2.5 3.8L13 9H5v6z");
const REJECT = new Path2D("M3 3l10 10M13 3L3 13");
const FIELD = 16;
/** Pixels of a star at most. */
const MOST = 12;

/**
 * @param {CanvasRenderingContext2D} context @param {import("./ratings.js").Mark} mark
 * @param {number} left @param {number} bottom @param {number} width Of the picture.
 */
export function drawMark(context, { stars, flag }, left, bottom, width) {
  const n = wholeStars(stars);
  if (!n && !flag) return;
  const size = Math.min(MOST, width / (flag ? 6.2 : 5.2));
  // White stars need a ground of their own: photographs are bright, too.
  context.fillStyle = "rgb(0 0 0 / 60%)";
  context.fillRect(left, bottom - size - 2, width, size + 2);
  context.fillStyle = context.strokeStyle = "#fff";
  for (let place = 0; place < n; place++) drawAt(context, left + 1 + place * size, bottom - size - 1, size, () => context.fill(STAR));
  if (flag > 0) drawAt(context, left + width - size - 1, bottom - size - 1, size, () => context.fill(PICK));
  if (flag < 0) {
    context.lineWidth = 2.6;
    drawAt(context, left + width - size - 1, bottom - size - 1, size, () => context.stroke(REJECT));
  }
}

/** @param {CanvasRenderingContext2D} context @param {number} x @param {number} y @param {number} size @param {() => void} draw */
function drawAt(context, x, y, size, draw) {
  context.save();
  context.translate(x, y);
  context.scale(size / FIELD, size / FIELD);
  draw();
  context.restore();
}
