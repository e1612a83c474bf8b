/** What to rate next: a few photographs, and pairs of them, ahead of the one that is looked at. */

import { ServerGone } from "./api.js";

/** @typedef {[string, string]} Pair */
/** @typedef {ReturnType<typeof createQueue>} Queue */

const ENOUGH = 8;
const ASKED = 20;
/** The most that the program gives at once. */
const MOST = 60;
/** Milliseconds until what could not be had is asked for again. */
const PAUSE = 1500;

/** @param {string} a @param {string} b */
const nameOf = (a, b) => (a < b ? `${a} ${b}` : `${b} ${a}`);

/**
 * @param {import("./api.js").Api} api
 * @param {{isKnown: (key: string) => boolean, isRated: (key: string) => boolean, onChange: () => void}} act
 */
export function createQueue(api, act) {
  /** @type {string[]} */
  let ahead = [];
  /** @type {Pair[]} */
  let pairs = [];
  /** Shown already, rated or passed over. */
  const seen = new Set();
  /** @type {Set<string>} */
  const seenPairs = new Set();
  let busy = false;
  let isDry = false;
  let isWanted = false;
  let problem = "";

  async function ask() {
    isWanted = true;
    if (busy) return;
    busy = true;
    while (isWanted) {
      isWanted = false;
      try {
        // What was passed over comes again: it has to be asked past.
        const passed = [...seen].filter((key) => !act.isRated(key)).length;
        const answer = await api.next(Math.min(MOST, ASKED + passed));
        take(answer.keys, answer.pair);
        problem = "";
      } catch (error) {
        problem = error instanceof Error ? error.message : String(error);
        if (!(error instanceof ServerGone)) setTimeout(() => problem && ask(), PAUSE);
      }
    }
    busy = false;
    act.onChange();
  }

  /** @param {string[]} keys @param {string[]} pair */
  function take(keys, pair) {
    const some = keys.filter((key) => act.isKnown(key) && !act.isRated(key));
    const fresh = some.filter((key) => !seen.has(key) && !ahead.includes(key));
    ahead.push(...fresh);
    isDry = fresh.length === 0;
    /** @type {Pair[]} */
    const found = pair.length === 2 && pair.every(act.isKnown) ? [[pair[0], pair[1]]] : [];
    const others = some.filter((key) => !pair.includes(key));
    for (let at = 0; at + 1 < others.length; at += 2) found.push([others[at], others[at + 1]]);
    pairs = found.filter(([a, b]) => !seenPairs.has(nameOf(a, b)));
  }

  return {
    /** The next photograph, "" if there is none now. */
    next() {
      ahead = ahead.filter((key) => !act.isRated(key) && act.isKnown(key));
      const key = ahead.shift() ?? "";
      if (key) seen.add(key);
      if (ahead.length < ENOUGH && !(isDry && key)) void ask();
      return key;
    },
    /** The next two, null if there are none now. @returns {Pair | null} */
    nextPair() {
      pairs = pairs.filter((pair) => !pair.some(act.isRated));
      const pair = pairs.shift() ?? null;
      if (pair) seenPairs.add(nameOf(...pair));
      if (!pairs.length) void ask();
      return pair;
    },
    /** Something was rated: two that are worth comparing may be others now. */
    renew: () => void ask(),
    /** What comes then. */
    ahead: () => ahead.slice(0, 3),
    aheadPairs: () => pairs.slice(0, 2).flat(),
    /** What was passed over may come again. */
    forget() {
      seen.clear();
      seenPairs.clear();
      ahead = [];
      pairs = [];
      isDry = false;
    },
    isBusy: () => busy,
    problem: () => problem,
  };
}
