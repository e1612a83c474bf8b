/**
 * Keeps the order that is learned from ratings still while one rates in it: after every key there is a new one, and
 * photographs that jump under the hand cannot be rated. The new order waits until it is asked for.
 */

/** @typedef {import("./types.js").Order} Order */

export function createResort() {
  /** @type {Order | null} */
  let held = null;
  let waiting = false;
  return {
    /** The order to show. @param {Order | null} fresh @param {boolean} mayJump Whether photographs may change places. */
    hold(fresh, mayJump) {
      // What came for another reason than a rating, as photographs that were looked at meanwhile, is shown as in any other order.
      if (!fresh || !held || mayJump || held.listing !== fresh.listing || held.last === fresh.last) held = fresh;
      waiting = held !== fresh && held !== null && fresh !== null && held.rows.some((row, place) => row !== fresh.rows[place]);
      return held;
    },
    /** Whether another order waits. */
    isWaiting: () => waiting,
  };
}
