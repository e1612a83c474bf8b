/**
 * What the page knows of the library: its list and the rankings, groups and map that were asked for.
 * Rows of all of them mean the same photographs, always: what belongs to another list is fetched anew.
 */

import { ApiError, ServerGone } from "./api.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Photographs} Photographs */
/** @typedef {import("./types.js").Order} Order */
/** @typedef {ReturnType<typeof createLibrary>} LibraryData */

/** @type {Photographs} */
const NOTHING = {
  version: "", listing: "", key: [], name: [], folder: [], ending: [], width: [], height: [],
  taken: [], colour: [], state: [], reason: [], sharpness: [], thumb: [],
};

/**
 * @param {import("./api.js").Api} api
 * @param {{onChange: () => void, onProblem: (message: string) => void}} tell
 */
export function createLibrary(api, tell) {
  /** @type {import("./types.js").Library | null} */
  let info = null;
  let photographs = NOTHING;
  /** @type {Map<string, number>} */
  let rowOf = new Map();
  const slots = {
    score: createSlot(/** @param {any} answer */ (answer) => readOrder(answer, photographs.key.length)),
    search: createSlot(/** @param {any} answer */ (answer) => readOrder(answer, photographs.key.length)),
    taste: createSlot(/** @param {any} answer */ (answer) => ({ ...readOrder(answer, photographs.key.length), title: "My taste", listing: answer.listing, last: answer.last })),
    groups: createSlot(/** @param {any} answer */ (answer) => readGroups(answer, photographs.key.length)),
    points: createSlot(readPoints),
  };

  /** @type {() => void} */
  let listed = () => {};
  const firstList = new Promise((resolve) => (listed = () => resolve(undefined)));

  /** Takes a new list; what belongs to the one before is dropped if its rows mean other photographs. */
  async function loadPhotographs() {
    const list = await api.photographs();
    const same = list.key.length === photographs.key.length && list.key.every((key, row) => key === photographs.key[row]);
    photographs = list;
    if (!same) {
      rowOf = new Map(list.key.map((key, row) => [key, row]));
      for (const slot of Object.values(slots)) slot.value = null;
    }
    for (const slot of Object.values(slots)) slot.fresh = false;
    listed();
  }

  /**
   * @template T
   * @param {Slot<T>} slot @param {string} query "" for: not needed now. @param {() => Promise<any>} fetchIt
   */
  async function fill(slot, query, fetchIt) {
    if (query === slot.query && (slot.fresh || slot.busy)) return;
    // Until the new answer is here the one before stays: nothing jumps twice.
    slot.query = query;
    slot.problem = "";
    slot.busy = false;
    if (!query) {
      slot.value = null;
      return;
    }
    const attempt = ++slot.attempt;
    slot.busy = true;
    try {
      const answer = await fetchIt();
      await firstList;
      if (attempt !== slot.attempt || query !== slot.query) return;
      if (isOfAnotherList(answer, photographs)) {
        await loadPhotographs();
      } else {
        slot.value = slot.read(answer);
        slot.fresh = true;
        slot.conflicts = 0;
      }
    } catch (error) {
      if (attempt !== slot.attempt || query !== slot.query) return;
      if (slot === slots.taste && error instanceof ApiError && error.status === 409) {
        // Nothing to learn from yet: asked again with the next rating, and with the next list.
        slots.taste.value = null;
        slot.fresh = true;
      } else if (error instanceof ApiError && error.status === 409 && slot.conflicts < 3) {
        slot.conflicts += 1;
        await loadPhotographs();
      } else if (error instanceof ServerGone) {
        // The status bar says so, and asks again when the program is back.
      } else {
        slot.problem = error instanceof Error ? error.message : String(error);
        slot.fresh = true;
        tell.onProblem(slot.problem);
      }
    } finally {
      if (attempt === slot.attempt) slot.busy = false;
    }
    tell.onChange();
  }

  /**
   * Fetches what this state needs and is not here; groups in any case once all is there.
   * @param {State} state @param {boolean} ready @param {number} last Changes with every rating; below 0 where there is none.
   */
  function want(state, ready, last) {
    const score = scoreQuery(state, info);
    const search = searchQuery(state);
    const needsGroups = ready || state.view === "groups" || state.stacks || state.group !== "" || state.kinds.length > 0;
    void fill(slots.score, score, () => api.order(score));
    void fill(slots.search, search, () => api.order(search));
    // One at a time: keys may come faster than answers.
    if (!slots.taste.busy) void fill(slots.taste, state.order === "taste" && last >= 0 ? `by=taste&last=${last}` : "", async () => ({ ...(await api.order("by=taste")), last }));
    void fill(slots.groups, needsGroups ? "groups" : slots.groups.query, () => api.groups());
    void fill(slots.points, state.view === "map" ? "map" : slots.points.query, () => api.map());
  }

  return {
    info: () => info,
    photographs: () => photographs,
    /** @param {string} key */
    rowOf: (key) => rowOf.get(key) ?? -1,
    score: () => slots.score.value,
    search: () => slots.search.value,
    taste: () => slots.taste.value,
    groups: () => slots.groups.value,
    points: () => slots.points.value,
    isBusy: (/** @type {keyof typeof slots} */ name) => slots[name].busy,
    problemOf: (/** @type {keyof typeof slots} */ name) => slots[name].problem,
    want,
    /** The list for the first time; what the state needs is asked for beside it, as soon as it is known what that is. @param {() => void} onInfo */
    async load(onInfo) {
      const list = loadPhotographs();
      info = await api.library();
      onInfo();
      await list;
      tell.onChange();
    },
    /** The list anew, and then what the state needs. */
    async refresh() {
      const [library] = await Promise.all([api.library(), loadPhotographs()]);
      info = library;
      tell.onChange();
    },
  };
}

/**
 * @template T
 * @typedef {{query: string, value: T | null, fresh: boolean, busy: boolean, problem: string, attempt: number, conflicts: number, read: (answer: any) => T}} Slot
 */

/** @template T @param {(answer: any) => T} read @returns {Slot<T>} */
function createSlot(read) {
  return { query: "", value: null, fresh: false, busy: false, problem: "", attempt: 0, conflicts: 0, read };
}

/**
 * Whether its rows mean other photographs than those of the list.
 * @param {any} answer @param {Photographs} photographs
 */
function isOfAnotherList(answer, photographs) {
  if (answer.listing !== undefined) return answer.listing !== photographs.listing;
  /** @type {number[][]} */
  const parts = answer.groups ? answer.groups.map((/** @type {any} */ group) => group.rows) : [answer.rows];
  return parts.some((rows) => rows.some((row) => row >= photographs.key.length));
}

/** How the score is asked for; "" where nothing gives one. @param {State} state @param {import("./types.js").Library | null} info */
export function scoreQuery(state, info) {
  if (state.high && state.low) return new URLSearchParams([["by", "words"], ["high", state.high], ["low", state.low]]).toString();
  const head = state.head || info?.default_head || info?.heads[0]?.name || "";
  return head ? new URLSearchParams({ by: "score", head }).toString() : "";
}

/** @param {State} state */
export function searchQuery(state) {
  const words = new URLSearchParams();
  for (const text of state.texts) words.append("text", text);
  for (const key of state.likes) words.append("like", key);
  for (const token of state.pictures) words.append("picture", token);
  return words.size ? `by=search&${words}` : "";
}

/** @param {any} answer @param {number} n @returns {Order} */
function readOrder(answer, n) {
  const score = new Float64Array(n).fill(NaN);
  const percentile = new Float64Array(n).fill(NaN);
  answer.rows.forEach((/** @type {number} */ row, /** @type {number} */ place) => {
    score[row] = answer.score[place];
    percentile[row] = answer.percentile[place];
  });
  return { version: answer.version, title: answer.title, scoreName: answer.score_name, rows: Int32Array.from(answer.rows), score, percentile };
}

/** @param {any} answer @param {number} n @returns {import("./types.js").Groups} */
function readGroups(answer, n) {
  const of = new Int32Array(n).fill(-1);
  answer.groups.forEach((/** @type {import("./types.js").Group} */ group, /** @type {number} */ index) => {
    for (const row of group.rows) of[row] = index;
  });
  return { version: answer.version, groups: answer.groups, of };
}

/** @param {any} answer @returns {import("./types.js").Points} */
function readPoints(answer) {
  return { version: answer.version, rows: Int32Array.from(answer.rows), x: Float64Array.from(answer.x), y: Float64Array.from(answer.y) };
}
