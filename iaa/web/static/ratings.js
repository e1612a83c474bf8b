/**
 * Stars, picks and rejects of every photograph. What is said shows at once and is sent in the order in which it was said;
 * what the program refuses is taken back here, too, and its reason told.
 */

import { ServerGone } from "./api.js";

/** @typedef {import("./types.js").Photographs} Photographs */
/** @typedef {import("./types.js").Marks} Marks */
/** @typedef {"stars" | "flag" | "pair"} Kind */
/** @typedef {{stars: number, flag: number}} Mark */
/** @typedef {{key: string, other: string, kind: Kind, value: number, before: number, act: number, step: number}} Change `act` is 0 where it is not kept: not yet, or not any more. Changes of one step were said at once. */
/** @typedef {{change: Change, isUndo: boolean}} Task */
/** @typedef {ReturnType<typeof createRatings>} RatingsData */

/** Milliseconds until what could not be read is asked for again. */
const PAUSE = 3000;

/** @type {Mark} */
const NONE = { stars: 0, flag: 0 };

/**
 * @param {import("./api.js").Api} api
 * @param {{onChange: () => void, onRefused: (tasks: Task[], reason: string) => void, onUndone: (keys: string[], before: Mark[]) => void}} tell
 */
export function createRatings(api, tell) {
  /** What the program holds. @type {Map<string, Mark>} */
  let held = new Map();
  let counts = { n_stars: 0, n_flags: 0, n_pairs: 0, last: -1 };
  /** Which list `held` was read with; "" for none. */
  let listing = "";
  /** Whether there was no answer a moment ago. */
  let isPausing = false;
  /** @type {Promise<void> | null} */
  let asking = null;
  /** @type {Task[]} */
  const queue = [];
  let step = 0;
  let working = false;
  let isStale = false;
  /** Whether `held` is all that the program holds: another window may have rated. */
  let isWhole = false;
  /** @type {Photographs | null} */
  let list = null;
  /** What shows: held, and what is on its way. @type {Map<string, Mark> | null} */
  let shown = null;
  /** @type {Marks | null} */
  let columns = null;

  function changed() {
    shown = null;
    columns = null;
    tell.onChange();
  }

  function overlay() {
    if (shown) return shown;
    if (!queue.length) return (shown = held);
    shown = new Map(held);
    for (const { change, isUndo } of queue) {
      if (change.kind === "pair") continue;
      const value = isUndo ? change.before : change.value;
      shown.set(change.key, { ...(shown.get(change.key) ?? NONE), [change.kind]: value });
    }
    return shown;
  }

  /** @param {string} key */
  const of = (key) => overlay().get(key) ?? NONE;

  /** Sends one after the other: undoing means what was said last. */
  async function work() {
    if (working) return;
    working = true;
    /** @type {Task[]} */
    const refused = [];
    let reason = "";
    while (queue.length) {
      const { change, isUndo } = queue[0];
      const next = queue.findIndex((task) => task.change.step !== change.step || task.isUndo !== isUndo);
      const n = next < 0 ? queue.length : next;
      const changes = queue.slice(0, n).map((task) => task.change);
      try {
        if (isUndo) await takeBack(changes);
        else await keep(changes);
        queue.splice(0, n);
      } catch (error) {
        reason = error instanceof Error ? error.message : String(error);
        refused.push(...(error instanceof ServerGone ? queue.splice(0) : queue.splice(0, n)));
        isWhole = false;
        isStale = true;
      }
      changed();
    }
    working = false;
    if (refused.length) tell.onRefused(refused, reason);
    if (isStale) void refresh();
  }

  /** @param {Change[]} changes Of one step. */
  async function keep(changes) {
    const { other, kind, value } = changes[0];
    const keys = changes.map(({ key }) => key);
    const answer = await api.rate({ keys, kind, value, ...(other ? { other } : {}) });
    for (const change of changes) {
      change.act = answer.act;
      mark(change, value);
    }
    count(answer, changes.length);
  }

  /** @param {Change[]} changes Of one step: the program takes an act back as a whole. */
  async function takeBack(changes) {
    for (const act of new Set(changes.map((change) => change.act))) if (act) count(await api.undo(act), 1);
    for (const change of changes) {
      if (change.act) mark(change, change.before);
      change.act = 0;
    }
  }

  /** @param {Change} change @param {number} value */
  function mark({ key, kind }, value) {
    if (kind !== "pair") held.set(key, { ...(held.get(key) ?? NONE), [kind]: value });
  }

  /** Another window has rated, too, where more was added than this one did. @param {typeof counts} answer @param {number} n */
  function count({ n_stars, n_flags, n_pairs, last }, n) {
    if (last !== counts.last + n) [isStale, isWhole] = [true, false];
    counts = { n_stars, n_flags, n_pairs, last };
  }

  /** Asks what holds now: another window, or another program, may have rated. */
  function refresh() {
    isStale = true;
    asking ??= readAll().finally(() => {
      asking = null;
    });
    return asking;
  }

  async function readAll() {
    // An answer that is older than what was kept meanwhile is asked for once more.
    for (let tries = 0; isStale && list && tries < 3; tries++) {
      isStale = false;
      await readOnce(list, tries < 2);
    }
  }

  /** @param {Photographs} now @param {boolean} again Whether it may be asked for again. */
  async function readOnce(now, again) {
    try {
      const answer = await api.ratings();
      if (answer.listing !== now.listing) return pause();
      if (again && answer.last < counts.last) {
        isStale = true;
        return;
      }
      const isNews = !isWhole || answer.last !== counts.last || listing !== now.listing;
      listing = now.listing;
      isWhole = true;
      counts = { n_stars: answer.n_stars, n_flags: answer.n_flags, n_pairs: answer.n_pairs, last: answer.last };
      if (!isNews) return;
      held = new Map();
      answer.stars.forEach((stars, row) => {
        if (stars || answer.flag[row]) held.set(now.key[row], { stars, flag: answer.flag[row] });
      });
      changed();
    } catch {
      // Not listed yet, or gone.
      pause();
    }
  }

  /** Asks again in a while. */
  function pause() {
    isPausing = true;
    setTimeout(() => {
      isPausing = false;
      tell.onChange();
    }, PAUSE);
  }

  /** @param {Change[]} changes @param {boolean} isUndo */
  function send(changes, isUndo) {
    for (const change of changes) queue.push({ change, isUndo });
    if (changes.length) changed();
    void work();
  }

  addEventListener("beforeunload", (event) => {
    if (queue.length) event.preventDefault();
  });

  return {
    of,
    counts: () => counts,
    /** Whether anything is rated, as far as is known. */
    isAny: () => counts.n_stars + counts.n_flags + counts.n_pairs > 0,
    /** How many photographs have stars or a flag. */
    nRated() {
      let n = 0;
      for (const { stars, flag } of overlay().values()) if (stars || flag) n += 1;
      return n;
    },
    /** Changes with every rating that is kept, in whichever window it was given. */
    last: () => counts.last,
    refresh,
    /** Reads anew what belongs to another list. @param {Photographs} photographs */
    follow(photographs) {
      list = photographs;
      if (photographs.key.length && !asking && !isPausing && listing !== photographs.listing) void refresh();
    },
    /** Stars and flags row by row. @param {Photographs} photographs @returns {Marks} */
    columns(photographs) {
      if (columns && columns.key === photographs.key) return columns;
      const marks = overlay();
      const stars = new Float32Array(photographs.key.length);
      const flag = new Int8Array(photographs.key.length);
      if (marks.size) {
        photographs.key.forEach((key, row) => {
          const mark = marks.get(key);
          if (mark) [stars[row], flag[row]] = [mark.stars, mark.flag];
        });
      }
      return (columns = { key: photographs.key, stars, flag });
    },
    /**
     * Says the same of some photographs; those of which it holds already are left out.
     * @param {string[]} keys @param {"stars" | "flag"} kind @param {number} value
     */
    rate(keys, kind, value) {
      step += 1;
      /** @type {Change[]} */
      const changes = keys.map((key) => ({ key, other: "", kind, value, before: of(key)[kind], act: 0, step })).filter((change) => change.before !== value);
      send(changes, false);
      return changes;
    },
    /** @param {string} key @param {string} other @param {number} value 1: the first is better, -1: the other, 0: they are equal. */
    compare(key, other, value) {
      /** @type {Change[]} */
      const changes = [{ key, other, kind: "pair", value, before: 0, act: 0, step: (step += 1) }];
      send(changes, false);
      return changes;
    },
    /** The last one first. @param {Change[]} changes */
    undo: (changes) => send([...changes].reverse(), true),
    /** Says it once more. @param {Change[]} changes */
    again(changes) {
      /** What was said at once is said at once again. @type {Map<number, number>} */
      const steps = new Map();
      for (const change of changes) if (!steps.has(change.step)) steps.set(change.step, (step += 1));
      /** @type {Change[]} */
      const anew = changes.map((change) => ({ ...change, act: 0, step: steps.get(change.step) ?? 0, ...(change.kind === "pair" ? {} : { before: of(change.key)[change.kind] }) }));
      send(anew, false);
      return anew;
    },
    /** Takes back what was said last, before this page was opened or elsewhere. What it was is told by what held before. */
    async undoEarlier() {
      const before = held;
      const answer = await api.undo(null);
      isWhole = false;
      await refresh();
      tell.onUndone(answer.keys, answer.keys.map((key) => before.get(key) ?? NONE));
      return answer.undone > 0;
    },
  };
}
