/** What can be done with the selected photographs: the bar that appears with them. No original is ever touched. */

import { ask, say } from "./dialog.js";
import { byId, h, setText } from "./dom.js";
import { countOf } from "./words.js";

/**
 * @param {import("./selection.js").Selection} selection
 * @param {{
 *   api: import("./api.js").Api, library: () => import("./types.js").Library | null, order: () => string, onCompare: () => void,
 * }} act
 */
export function createActions(selection, act) {
  const element = byId("actions");
  const count = h("span", { class: "actions-count", role: "status" });
  const compare = h("button", { type: "button", class: "button", title: "Compare two to four (C)", text: "Compare", onclick: act.onCompare });
  const reveal = h("button", { type: "button", class: "button wide-only", text: "Show in file manager", onclick: () => attempt(async () => {
    await act.api.reveal(selection.keys()[0]);
  }) });
  element.append(count, compare,
    h("button", { type: "button", class: "button primary", text: "Copy to a folder…", onclick: () => void copy() }),
    h("button", { type: "button", class: "button", text: "CSV", title: "A table of the selected photographs with their scores", onclick: () => attempt(async () => {
      save(await act.api.csv(selection.keys(), act.order()), `${act.library()?.name ?? "photographs"}.csv`);
    }) }),
    h("button", { type: "button", class: "button", text: "Zip", title: "The selected files as one archive", onclick: () => attempt(async () => {
      say(`Packing ${countOf(selection.size)}…`);
      save(await act.api.zip(selection.keys()), `${act.library()?.name ?? "photographs"}.zip`);
      say(`${countOf(selection.size)} packed.`);
    }) }),
    reveal,
    h("button", { type: "button", class: "button", text: "Clear", title: "Select nothing (Esc)", onclick: () => selection.clear() }));

  /** @param {() => Promise<void>} work */
  function attempt(work) {
    work().catch((error) => say(error instanceof Error ? error.message : String(error), "problem"));
  }

  async function copy() {
    const library = act.library();
    const name = await ask({
      title: `Copy ${countOf(selection.size)}`,
      label: "Into a new folder named",
      value: `Best of ${library?.title ?? "photographs"}`.replace(/[\\/:*?"<>|]/g, " ").trim(),
      about: [`It is made in ${library?.copies_folder ?? "the folder for copies"}. The originals stay where and as they are.`],
      ok: "Copy",
    });
    if (name) {
      attempt(async () => {
        const { folder, n } = await act.api.copy(selection.keys(), name);
        say(`${countOf(n)} copied to ${folder}`);
      });
    }
  }

  return {
    repaint() {
      element.hidden = selection.size === 0;
      document.body.classList.toggle("selecting", selection.size > 0);
      setText(count, `${countOf(selection.size, "selected", "selected")}`);
      compare.hidden = selection.size < 2;
      compare.disabled = selection.size > 4;
      compare.title = selection.size > 4 ? "Two to four can be compared: fewer have to be selected" : "Compare (C)";
      reveal.hidden = selection.size !== 1 || act.library()?.can_reveal === false;
    },
  };
}

/** Hands a file to the browser's downloads. @param {Blob} content @param {string} name */
function save(content, name) {
  const address = URL.createObjectURL(content);
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
