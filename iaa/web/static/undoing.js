/** What can be undone, the last first: ratings and changes of the selection in one row, as they were done. */

/** @typedef {ReturnType<typeof createUndoing>} Undoing */

/** More steps than anybody goes back. */
const MOST = 500;

/** @param {() => void} onEmpty Asked to undo when nothing of this page is left. */
export function createUndoing(onEmpty) {
  /** @type {(() => void)[]} */
  const steps = [];
  return {
    /** @param {() => void} step How it is undone. */
    did(step) {
      steps.push(step);
      if (steps.length > MOST) steps.shift();
    },
    /** The last step, or one of them. @param {() => void} [step] */
    undo(step = steps.at(-1)) {
      if (!step) return onEmpty();
      const place = steps.lastIndexOf(step);
      if (place < 0) return;
      steps.splice(place, 1);
      step();
    },
  };
}
