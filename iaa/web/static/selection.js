/** Which photographs are selected, as file managers do it. By key, so it outlives every new list. */

/** @typedef {ReturnType<typeof createSelection>} Selection */

/** @param {() => void} onChange @param {() => void} onDone Told of each change that `undo` takes back. */
export function createSelection(onChange, onDone) {
  /** @type {Set<string>} */
  let keys = new Set();
  /** @type {Set<string>[]} */
  const history = [];
  let anchor = "";

  /** @param {Set<string>} next */
  function become(next) {
    if (next.size === keys.size && [...next].every((key) => keys.has(key))) return;
    history.push(keys);
    if (history.length > 100) history.shift();
    keys = next;
    onDone();
    onChange();
  }

  return {
    get size() {
      return keys.size;
    },
    keys: () => [...keys],
    /** @param {string} key */
    has: (key) => keys.has(key),
    anchor: () => anchor,
    /** Where the next range begins. @param {string} key */
    setAnchor(key) {
      anchor = key;
    },
    /** @param {string} key */
    only(key) {
      anchor = key;
      become(new Set([key]));
    },
    /** @param {string} key */
    toggle(key) {
      anchor = key;
      const next = new Set(keys);
      if (!next.delete(key)) next.add(key);
      become(next);
    },
    /** These and nothing else, or these as well; the anchor stays. @param {Iterable<string>} some @param {boolean} [add] */
    choose(some, add = false) {
      become(new Set(add ? [...keys, ...some] : some));
    },
    /** @param {Iterable<string>} some */
    remove(some) {
      const gone = new Set(some);
      become(new Set([...keys].filter((key) => !gone.has(key))));
    },
    clear() {
      become(new Set());
    },
    /** Back to the selection before; false if there is none. */
    undo() {
      const before = history.pop();
      if (!before) return false;
      keys = before;
      onChange();
      return true;
    },
  };
}
