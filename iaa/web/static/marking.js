/** Rates photographs, says what was done, and how it is undone. */

import { countOf, starsText } from "./words.js";

/** @typedef {import("./ratings.js").Change} Change */
/** @typedef {import("./ratings.js").Kind} Kind */
/** @typedef {import("./dialog.js").Offer} Offer */
/** @typedef {ReturnType<typeof createMarking>} Marking */

/** @param {Kind} kind @param {number} value */
function wordsOf(kind, value) {
  if (kind === "stars") return starsText(value);
  return value === 1 ? "picked" : value === -1 ? "rejected" : "unmarked";
}

/**
 * @param {import("./ratings.js").RatingsData} ratings
 * @param {import("./undoing.js").Undoing} undoing
 * @param {{nameOf: (key: string) => string, say: (text: string, kind?: "" | "problem", offer?: Offer) => void, onUndo: (changes: Change[]) => void}} act
 */
export function createMarking(ratings, undoing, { nameOf, say, onUndo }) {
  /** @param {Change[]} changes */
  function textOf(changes) {
    const { key, other, kind, value } = changes[0];
    if (kind !== "pair") return `${changes.length === 1 ? nameOf(key) : countOf(changes.length)}: ${wordsOf(kind, value)}`;
    if (value === 0) return `${nameOf(key)} and ${nameOf(other)} are equal`;
    const [better, worse] = value > 0 ? [key, other] : [other, key];
    return `${nameOf(better)} is better than ${nameOf(worse)}`;
  }

  /** @param {Change[]} changes */
  function did(changes) {
    if (!changes.length) return changes;
    const text = textOf(changes);
    const step = () => {
      ratings.undo(changes);
      onUndo(changes);
      say(`Undone: ${text}`, "", { text: "Redo", run: () => did(ratings.again(changes)) });
    };
    undoing.did(step);
    say(text, "", { text: "Undo", run: () => undoing.undo(step) });
    return changes;
  }

  return {
    /** @param {string[]} keys @param {"stars" | "flag"} kind @param {number} value */
    rate: (keys, kind, value) => did(ratings.rate(keys, kind, value)),
    /** @param {string} key @param {string} other @param {number} value */
    compare: (key, other, value) => did(ratings.compare(key, other, value)),
    /** @param {import("./ratings.js").Task[]} tasks @param {string} reason */
    refused(tasks, reason) {
      const { isUndo } = tasks[0];
      const changes = tasks.filter((task) => task.isUndo === isUndo).map(({ change }) => change);
      const what = changes.length === 1 ? textOf(changes) : countOf(changes.length, "rating");
      const again = () => (isUndo ? ratings.undo(changes.reverse()) : did(ratings.again(changes)));
      say(`Not ${isUndo ? "undone" : "kept"}: ${what}. ${reason}`, "problem", { text: "Try again", run: again });
    },
    /** @param {string[]} keys @param {import("./ratings.js").Mark[]} before */
    undoneEarlier(keys, before) {
      if (!keys.length) return say("There is nothing left to undo.");
      const gone = keys.map((key, place) => ({ key, was: before[place], is: ratings.of(key) })).find(({ was, is }) => was.stars !== is.stars || was.flag !== is.flag);
      if (!gone) return say(`Undone, from earlier: ${keys.map(nameOf).join(" and ")}`);
      const kind = gone.was.stars !== gone.is.stars ? "stars" : "flag";
      say(`Undone, from earlier: ${nameOf(gone.key)}: ${wordsOf(kind, gone.was[kind])}`, "", { text: "Redo", run: () => did(ratings.rate([gone.key], kind, gone.was[kind])) });
    },
  };
}
