/** What ratings are worth, in the words of those who gave them. Pure. */

import { countOf } from "./words.js";

/** @typedef {import("./types.js").Taste} Taste */

/** @type {Record<string, string>} */
const BY = { taste: "your ratings", "general head": "the general score", chance: "guessing" };
/** @type {Record<string, string>} */
const QUESTIONS = {
  SRCC: "Same order as yours (1: the same, 0: none)",
  "pairs in order": "Of two photographs, the better one told",
  "pairs in order, within groups": "Of two of one group, the better one told",
  comparisons: "Of two that you compared, the better one told",
};
const AHEAD = "ahead of ";
/** How many times the ratings that there are may be missing, to be told. */
const IN_SIGHT = 3;

/** @param {number} share @param {number} [low] */
const percent = (share, low = 0) => `${Math.round(100 * Math.min(1, Math.max(low, share))).toString().replace("-", "\u2212")} %`;

/** @param {Taste} taste */
function rivalOf({ rows }) {
  const row = rows.find(({ question }) => question.startsWith(AHEAD));
  return BY[row?.question.slice(AHEAD.length) ?? "chance"] ?? "the general score";
}

/** The question on which it is judged. @param {Taste} taste @param {string} by */
const toldBy = ({ rows }, by) => ["pairs in order", "comparisons"].map((name) => rows.find((row) => row.question === name && row.by === by)).find((row) => row && row.value !== null);

/** A few words. @param {Taste} taste */
export function verdictOf(taste) {
  const { phase, is_better, n_more, n_measured, rows } = taste;
  if (!taste.n_stars && !taste.n_flags && !taste.n_pairs) return "nothing rated yet";
  if (phase === "too few") return n_more ? `${countOf(n_more, "more rating")} until it can be told what is learned` : "too few to learn from";
  if (!rows.length) return "finding out what is learned…";
  const rival = rivalOf(taste);
  if (is_better) return `better than ${rival}`;
  // A number far beyond what there is would be another one after the next rating.
  return n_more && n_more <= IN_SIGHT * n_measured ? `not better than ${rival} yet: about ${n_more} more` : `not better than ${rival} so far`;
}

/** What that rests on; "" where nothing could be measured. @param {Taste} taste */
export function evidenceOf(taste) {
  const own = toldBy(taste, "taste");
  if (!own || own.value === null) return "";
  const range = own.low !== null && own.high !== null ? ` (${percent(own.low)} to ${percent(own.high)})` : "";
  const other = toldBy(taste, "general head");
  const beside = other && other.value !== null ? `, the general score ${percent(other.value)}` : "";
  return `Of two photographs that were held back, your ratings tell the better one ${percent(own.value)} of the time${range}${beside}; guessing 50 %.`;
}

/** All of it as a table. @param {Taste} taste @returns {{question: string, by: string, value: string, range: string, n: string}[]} */
export function tableOf({ rows }) {
  return rows.map(({ question, by, value, low, high, n }) => {
    const isAhead = question.startsWith(AHEAD);
    const isOrder = question === "SRCC";
    const format = (/** @type {number} */ one) => (isOrder ? Math.min(1, Math.max(-1, one)).toFixed(2).replace("-", "\u2212") : percent(one, isAhead ? -1 : 0));
    return {
      question: isAhead ? `Ahead of ${BY[question.slice(AHEAD.length)] ?? "it"}` : QUESTIONS[question] ?? question,
      by: BY[by] ?? by,
      value: value === null ? "" : format(value),
      range: low === null || high === null ? "" : `${format(low)} to ${format(high)}`,
      n: String(n),
    };
  });
}
