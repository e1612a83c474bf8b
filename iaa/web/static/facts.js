/** What is known of one photograph, as a list beside it. */

import { h, icon } from "./dom.js";
import { formatBytes, formatExposure, formatMoment, formatPercentile, formatPixels, formatScore } from "./words.js";

/** @typedef {import("./types.js").Facts} Facts */
/** @typedef {{title: string, score: number, percentile: number, isLikeness: boolean}} Mark */

/**
 * @param {HTMLElement} panel
 * @param {{facts: Facts | null, name: string, marks: Mark[], groupText: string, problem: string}} known facts: null while they are fetched.
 * @param {{onAlike: () => void, onGroup: () => void, onReveal: (() => void) | null, onWord: (text: string) => void}} act
 */
export function paintFacts(panel, { facts, name, marks, groupText, problem }, act) {
  panel.replaceChildren(
    h("h2", { class: "facts-name", text: facts?.name ?? name }),
    ...(facts?.changed ? [h("p", { class: "notice", text: "This file has changed since it was looked at. Score and groups are those of the earlier one until the library is brought up to date." })] : []),
    ...(facts?.state === "failed" ? [h("p", { class: "notice", text: `Could not be read: ${facts.reason}` })] : []),
    ...(facts?.state === "waiting" ? [h("p", { class: "quiet", text: "Not scored yet: it is this photograph's turn soon." })] : []),
    ...(problem ? [h("p", { class: "notice", text: problem })] : []),
    ...marks.filter((mark) => Number.isFinite(mark.score)).map(markOf),
    h("div", { class: "facts-actions" },
      h("button", { type: "button", class: "button phone-only", onclick: act.onAlike }, icon("alike"), "More like this"),
      groupText && h("button", { type: "button", class: "button", onclick: act.onGroup }, icon("stack"), groupText)),
    ...(facts ? wordsOf(facts, act.onWord) : []),
    facts ? listOf(facts) : h("p", { class: "quiet", text: problem ? "" : "Reading…" }),
    ...(facts && act.onReveal ? [h("button", { type: "button", class: "button", onclick: act.onReveal }, "Show in file manager")] : []),
  );
}

/** @param {Mark} mark */
function markOf({ title, score, percentile, isLikeness }) {
  const bar = h("div", { class: "mark-bar", "aria-hidden": "true" }, h("div", { class: "mark-fill" }));
  /** @type {HTMLElement} */ (bar.firstChild).style.width = `${Math.max(1, percentile)}%`;
  return h("div", { class: "mark" },
    h("div", { class: "mark-line" }, h("span", { text: capital(title) }), h("strong", { text: formatScore(score) })),
    Number.isFinite(percentile) && bar,
    Number.isFinite(percentile) && h("div", { class: "quiet small", text: `${capital(formatPercentile(percentile, isLikeness ? "more alike" : "better"))} of the library` }));
}

/** @param {Facts} facts @param {(text: string) => void} onWord */
function wordsOf(facts, onWord) {
  if (!facts.words?.length) return [];
  const buttons = facts.words.map(({ text, percentile }) => {
    const title = percentile === null ? `Search for ${text}` : `Search for ${text}; it fits ${formatPercentile(percentile)} of the library`;
    return h("button", { type: "button", class: "word", title, text, onclick: () => onWord(text) });
  });
  return [h("h3", { text: "Words that fit" }), h("div", { class: "word-list" }, ...buttons)];
}

/** @param {Facts} facts */
function listOf(facts) {
  const exposure = [
    facts.exposure ? formatExposure(facts.exposure) : "",
    facts.aperture ? `f/${Number(facts.aperture.toFixed(1))}` : "",
    facts.iso ? `ISO ${facts.iso}` : "",
    facts.focal ? `${Number(facts.focal.toFixed(1))} mm` : "",
    facts.bias ? `${facts.bias > 0 ? "+" : "\u2212"}${Math.abs(Number(facts.bias.toFixed(2)))} EV` : "",
  ].filter(Boolean).join(" · ");
  /** @type {[string, string][]} */
  const lines = [
    ["Taken", facts.taken === null ? "" : formatMoment(facts.taken)],
    ["Camera", facts.camera ?? ""],
    ["Lens", facts.lens ?? ""],
    ["Exposure", exposure],
    ["Size", [facts.width ? formatPixels(facts.width, facts.height) : "", facts.size_bytes ? formatBytes(facts.size_bytes) : ""].filter(Boolean).join(", ")],
    ["File", facts.file],
    ["Copies", facts.exact_copies?.length ? `${facts.exact_copies.length} more with exactly this content` : ""],
  ];
  const list = h("dl", { class: "facts-list" });
  for (const [term, text] of lines) if (text) list.append(h("dt", { text: term }), h("dd", { text }));
  return list;
}

/** @param {string} text */
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
