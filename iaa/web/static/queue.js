/** What to rate next: a few photographs, and pairs of them, ahead of the one that is looked at. */

import { ApiError } from "./api.js";

/** @typedef {[string, string]} Pair */
/** @typedef {ReturnType<typeof createQueue>} Queue */

const ENOUGH = 8;
const ASKED = 20;
/** The most that the program gives at once. */
const MOST = 60;
/** Milliseconds until what could not be had is asked for again. */
const PAUSE = 1500;
/** Which of them tell most is known of those that were looked at. */
const NOT_YET = "None has been looked at yet: they come as soon as some are.";

/**
 * @param {import("./api.js").Api} api
 * @param {{isKnown: (key: string) => boolean, isRated: (key: string) => boolean, groupOf: (key: string) => string, isOpen: () => boolean, onChange: () => void}} act
 */
export function createQueue(api, act) {
  /** @type {string[]} */
  let ahead = [];
  /** @type {Pair[]} */
  let pairs = [];
  /** Shown already, rated or passed over. @type {Set<string>} */
  const seen = new Set();
  /** Shown in a pair already. @type {Set<string>} */
  const compared = new Set();
  // Two windows are asked different things.
  const turn = Math.floor(Math.random() * 1000);
  let busy = false;
  let isDry = false;
  let isWanted = false;
  let problem = "";
  let timer = 0;

  /** @param {boolean} [anew] Whether an answer that is on its way is of yesterday. */
  async function ask(anew = false) {
    isWanted ||= anew || !busy;
    if (busy) return;
    busy = true;
    clearTimeout(timer);
    while (isWanted) {
      isWanted = false;
      try {
        // What was passed over comes again: it has to be asked past.
        const passed = [...seen].filter((key) => !act.isRated(key)).length;
        const n = Math.min(MOST, ASKED + passed);
        const answer = await api.next(n, turn);
        const { keys } = answer;
        const nNew = take(keys, answer.pairs);
        isDry = nNew === 0 && (keys.length < n || n === MOST);
        problem = "";
      } catch (error) {
        problem = error instanceof ApiError && error.status === 409 ? NOT_YET : error instanceof Error ? error.message : String(error);
        timer = window.setTimeout(() => act.isOpen() && ask(), PAUSE);
      }
    }
    busy = false;
    act.onChange();
  }

  /** @param {string[]} keys @param {string[][]} found */
  function take(keys, found) {
    const before = new Set(ahead);
    // As it is known now: what is better known does not wait behind what was said before.
    ahead = keys.filter((key) => act.isKnown(key) && !act.isRated(key) && !seen.has(key));
    pairs = /** @type {Pair[]} */ (found.filter((two) => two.length === 2 && two.every((key) => act.isKnown(key) && !act.isRated(key) && !compared.has(key))));
    return ahead.filter((key) => !before.has(key)).length;
  }

  return {
    /** The next photograph, "" if there is none now. */
    next() {
      // Groups may have been found meanwhile: of each one photograph is enough.
      const groups = new Set([...seen].map(act.groupOf));
      groups.delete("");
      ahead = ahead.filter((key) => !act.isRated(key) && act.isKnown(key) && !groups.has(act.groupOf(key)));
      const key = ahead.shift() ?? "";
      if (key) seen.add(key);
      // Where the last answer had nothing new, the next one has nothing either; where there was none, it is asked again in a while.
      if (ahead.length < ENOUGH && !isDry && !problem) void ask();
      return key;
    },
    /** The next two, null if there are none now. @returns {Pair | null} */
    nextPair() {
      pairs = pairs.filter((pair) => !pair.some((key) => act.isRated(key) || compared.has(key)));
      const pair = pairs.shift() ?? null;
      for (const key of pair ?? []) compared.add(key);
      if (!pairs.length && pair && !problem) void ask();
      return pair;
    },
    /** Something was rated: two that are worth comparing may be others now. */
    renew: () => void ask(true),
    /** What comes then. */
    ahead: () => ahead.slice(0, 3),
    aheadPairs: () => pairs.slice(0, 2).flat(),
    /** Begins anew: what was passed over may come again. */
    begin() {
      seen.clear();
      compared.clear();
      ahead = [];
      pairs = [];
      isDry = false;
      void ask(true);
    },
    isBusy: () => busy,
    problem: () => problem,
  };
}
