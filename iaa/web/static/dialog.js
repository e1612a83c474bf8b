/** Small windows over the page and short messages at its foot. */

import { byId, h, iconButton } from "./dom.js";

/**
 * A question with one line to fill in. What was typed, or null.
 * @param {{title: string, about: (Node | string)[], label: string, value: string, ok: string, type?: string}} question
 * @returns {Promise<string | null>}
 */
export function ask({ title, about, label, value, ok, type = "text" }) {
  const input = h("input", { class: "field", type, value, required: true, name: "answer", autocomplete: "off", spellcheck: "false", ...(type === "number" ? { min: 1, step: 1 } : {}) });
  const form = h("form", { method: "dialog" },
    h("label", { class: "field-label" }, h("span", { text: label }), input),
    ...about.map((part) => (typeof part === "string" ? h("p", { class: "quiet", text: part }) : part)),
    h("div", { class: "dialog-buttons" },
      h("button", { type: "button", class: "button", text: "Cancel", onclick: () => dialog.close("") }),
      h("button", { type: "submit", class: "button primary", value: "ok", text: ok })));
  const dialog = openDialog(title, form);
  input.focus();
  input.select();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok" ? input.value.trim() : null));
  });
}

/**
 * Two words between which photographs are scored, or null.
 * @param {string} high @param {string} low @returns {Promise<{high: string, low: string} | null>}
 */
export function askPair(high, low) {
  const inputs = [high, low].map((value) => h("input", { class: "field", value, required: true, autocomplete: "off" }));
  const form = h("form", { method: "dialog" },
    h("label", { class: "field-label" }, h("span", { text: "Best are those that look" }), inputs[0]),
    h("label", { class: "field-label" }, h("span", { text: "rather than" }), inputs[1]),
    h("div", { class: "dialog-buttons" },
      h("button", { type: "button", class: "button", text: "Cancel", onclick: () => dialog.close("") }),
      h("button", { type: "submit", class: "button primary", value: "ok", text: "Score by these" })));
  const dialog = openDialog("Between two words", form);
  inputs[0].focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const [one, other] = inputs.map((input) => input.value.trim());
      resolve(dialog.returnValue === "ok" && one && other ? { high: one, low: other } : null);
    });
  });
}

/** @param {string} title @param {...Node} content */
export function openDialog(title, ...content) {
  const before = document.activeElement;
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "dialog-title" }, h("div", { class: "dialog-head" }, h("h2", { id: "dialog-title", text: title }), iconButton("close", "Close", () => dialog.close(""), "Esc")), ...content);
  document.body.append(dialog);
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close("");
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before instanceof HTMLElement && before.isConnected) before.focus({ preventScroll: true });
  });
  dialog.showModal();
  return dialog;
}

let leaving = 0;

/** @typedef {{text: string, run: () => void}} Offer What can be done about what is said. */

/** Says something for a while; screen readers say it too. @param {string} text @param {"" | "problem"} [kind] @param {Offer} [offer] */
export function say(text, kind = "", offer) {
  const toast = byId("toast");
  clearTimeout(leaving);
  const had = toast.contains(document.activeElement);
  const button = offer && h("button", { type: "button", class: "link", text: offer.text, onclick: () => {
    toast.classList.remove("shown");
    offer.run();
  } });
  toast.replaceChildren(h("span", { text }), ...(button ? [button] : []));
  if (had) button?.focus();
  toast.classList.toggle("problem", kind === "problem");
  toast.classList.add("shown");
  const leave = () => {
    if (toast.matches(":hover, :focus-within")) leaving = window.setTimeout(leave, 1000);
    else toast.classList.remove("shown");
  };
  leaving = window.setTimeout(leave, Math.max(offer ? 6000 : 4000, text.length * 70));
}
