/** What the grid and the viewer show of each photograph. */

import { countOf, formatCount, formatPercentile, formatScore, KINDS, markWords } from "./words.js";

/** @typedef {import("./types.js").Shown} Shown */
/** @typedef {import("./shown.js").Known} Known */
/** @typedef {import("./types.js").State} State */

/** Proportions that are assumed until a photograph was looked at. */
const USUAL = 1.5;

/** @param {import("./types.js").Photographs} photographs @param {number} row @returns {import("./viewer.js").Photograph} */
export function photographAt(photographs, row) {
  const { key, name, thumb, colour, width, height, state, reason } = photographs;
  return { key: key[row], name: name[row], thumb: thumb[row], colour: colour[row], width: width[row], height: height[row], state: state[row], reason: reason[row] };
}

/** The ranking whose numbers stand on the photographs. @param {State} state @param {Known} known */
export const markingOrder = (state, known) => (state.order === "alike" ? known.search : state.order === "taste" ? known.taste : known.score);

/**
 * @param {State} state @param {Shown} shown @param {Known} known @param {import("./selection.js").Selection} selection
 * @returns {import("./grid.js").GridItems}
 */
export function gridItems(state, shown, known, selection) {
  const { photographs, groups, marks } = known;
  const order = markingOrder(state, known);
  const ratios = Float32Array.from(shown.rows, (row) => (photographs.width[row] && photographs.height[row] ? photographs.width[row] / photographs.height[row] : USUAL));
  const group = state.group && groups ? groups.groups.find((one) => one.id === state.group) : undefined;
  return {
    length: shown.rows.length,
    ratios,
    headings: shown.headings,
    keyAt: (item) => photographs.key[shown.rows[item]],
    contentAt(item) {
      const row = shown.rows[item];
      const { key, name, thumb, colour, state: condition, reason } = photographAt(photographs, row);
      const stack = shown.stacks[item] >= 0 && groups ? groups.groups[shown.stacks[item]] : null;
      const score = order ? order.score[row] : NaN;
      const failed = condition === "failed";
      const whyNot = reason || "could not be read";
      const suggested = group?.ranked && group.rows[0] === row;
      const label = [
        name,
        stack ? `on top of ${KINDS[stack.kind].one}, ${countOf(stack.rows.length)}` : "",
        failed ? whyNot : "",
        Number.isFinite(score) && order ? `${order.title} ${formatScore(score)}, ${formatPercentile(order.percentile[row], state.order === "alike" ? "more alike" : "better")}` : "",
        ...markWords(marks.stars[row], marks.flag[row]),
        condition === "waiting" ? "not scored yet" : "",
        suggested ? "suggested" : "",
      ].filter(Boolean).join(", ");
      return {
        key, name, label, colour, thumb, score,
        version: photographs.version,
        reason: failed ? whyNot : "",
        badge: stack ? formatCount(stack.rows.length) : "",
        note: stack && state.view === "all" ? KINDS[stack.kind].one : suggested ? "suggested" : "",
        stars: marks.stars[row],
        flag: marks.flag[row],
        selected: selection.has(key),
        active: false,
        place: item,
        of: shown.rows.length,
        generation: 0,
      };
    },
  };
}
