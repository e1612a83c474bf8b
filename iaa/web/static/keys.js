/** The keys: one table gives both what they do and the list that "?" shows. */

import { h } from "./dom.js";
import { openDialog } from "./dialog.js";

/**
 * @typedef {object} Binding
 * @property {string[]} keys As `nameOf` spells them.
 * @property {string} shown As the table spells them; "" for one that the table need not show.
 * @property {string} does
 * @property {string[]} where Of "grid", "viewer", "compare", "map", "rate", "pairs".
 * @property {(name: string, event: KeyboardEvent) => void} run
 */

/** "Ctrl+z", "Shift+ArrowLeft", "?" @param {KeyboardEvent} event */
export function nameOf(event) {
  const letter = event.key.length === 1;
  const key = letter ? event.key.toLowerCase() : event.key;
  const ctrl = event.ctrlKey || event.metaKey ? "Ctrl+" : "";
  // Which signs need Shift differs between keyboards: only for letters and named keys it is part of the name.
  const shift = event.shiftKey && (!letter || /[a-z ]/i.test(event.key)) ? "Shift+" : "";
  return ctrl + shift + (key === " " ? "Space" : key);
}

/** Keys that belong to the control which has the focus. @param {EventTarget | null} target @param {string} name */
function belongsToControl(target, name) {
  if (!(target instanceof Element)) return false;
  if (target.closest("dialog")) return true;
  if (target.closest("input:not([type=checkbox]), textarea, [contenteditable]")) return true;
  if (target.closest("select, [role=slider]")) return name !== "?" && name !== "/" && name !== "Escape";
  return Boolean(target.closest("button, a, summary, input")) && ["Enter", "Space"].includes(name);
}

/**
 * @param {Binding[]} bindings
 * @param {() => string} place Where keys go now.
 */
export function listenToKeys(bindings, place) {
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.isComposing) return;
    const name = nameOf(event);
    if (belongsToControl(event.target, name)) return;
    const now = place();
    const binding = bindings.find((one) => one.where.includes(now) && one.keys.includes(name));
    if (!binding) return;
    event.preventDefault();
    binding.run(name, event);
  });
}

const PLACES = /** @type {const} */ ([["grid", "All photographs"], ["viewer", "One photograph"], ["compare", "Compare"], ["map", "Map"], ["rate", "Rate these next"], ["pairs", "Which of these two?"]]);

/** @param {Binding[]} bindings */
export function showKeys(bindings) {
  const isCommon = (/** @type {Binding} */ one) => one.where.length >= 3;
  const tables = [...PLACES, ["", "Everywhere"]].map(([place, title]) => {
    const rows = bindings.filter((one) => one.shown && (place ? one.where.includes(place) && !isCommon(one) : isCommon(one)));
    return h("section", {}, h("h3", { text: title }),
      h("table", { class: "keys" }, h("tbody", {}, ...rows.map((one) =>
        h("tr", {}, h("th", { scope: "row" }, ...one.shown.split(" ").map((key) => h("kbd", { text: key }))), h("td", { text: one.does }))))));
  });
  openDialog("Keys", h("div", { class: "key-tables" }, ...tables)).classList.add("wide");
}
