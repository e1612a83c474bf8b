/** The state of the page and who is told when it changes. */

/** @typedef {import("./types.js").State} State */

/** @returns {State} */
export function initialState() {
  return {
    view: "all",
    order: "best",
    reversed: false,
    head: "",
    high: "",
    low: "",
    texts: [],
    likes: [],
    pictures: [],
    name: "",
    score: null,
    alike: null,
    date: null,
    folders: [],
    endings: [],
    kinds: [],
    stars: [],
    flags: [],
    failed: false,
    stacks: false,
    group: "",
    open: "",
    compare: [],
    mode: "",
  };
}

/** What a fresh set of filters looks like. */
export const NO_FILTERS = /** @type {const} */ ({
  name: "",
  score: null,
  alike: null,
  date: null,
  folders: /** @type {string[]} */ ([]),
  endings: /** @type {string[]} */ ([]),
  kinds: /** @type {string[]} */ ([]),
  stars: /** @type {string[]} */ ([]),
  flags: /** @type {string[]} */ ([]),
  failed: false,
  group: "",
});

/** @param {State} state */
export function isSearching(state) {
  return state.texts.length + state.likes.length + state.pictures.length > 0;
}

/** How many filters are set. @param {State} state */
export function countFilters(state) {
  const set = [state.name, state.score, state.alike, state.date, state.failed, state.group];
  const lists = [state.folders, state.endings, state.kinds, state.stars, state.flags];
  return set.filter(Boolean).length + lists.filter((list) => list.length > 0).length;
}

/**
 * @param {State} first
 * @typedef {ReturnType<typeof createStore>} Store
 */
export function createStore(first) {
  let state = first;
  /** @type {((now: State, before: State, push: boolean) => void)[]} */
  const listeners = [];
  return {
    get: () => state,
    /**
     * Listeners hear of it before this returns.
     * @param {Partial<State>} patch
     * @param {{push?: boolean}} [how] push: "back" leads to the state before.
     */
    set(patch, { push = true } = {}) {
      const before = state;
      state = { ...state, ...patch };
      for (const listener of listeners) listener(state, before, push);
    },
    /** @param {(now: State, before: State, push: boolean) => void} listener */
    on(listener) {
      listeners.push(listener);
    },
  };
}
