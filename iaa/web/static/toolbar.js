/** The bar on top: views, order, sizes and what is rarely needed. */

import { openDialog } from "./dialog.js";
import { byId, h, icon, iconButton, setText } from "./dom.js";
import { isSearching } from "./state.js";
import { toggleTheme } from "./theme.js";
import { formatCount } from "./words.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Library} Library */
/** @typedef {"S" | "M" | "L"} Size */

const KEPT_SIZE = "size";
const KEPT_RAIL = "rail";
const VIEWS = /** @type {const} */ ([["all", "Photographs", "grid", "Esc"], ["groups", "Groups", "stack", "G"], ["map", "Map", "map", "M"]]);
const ORDERS = /** @type {const} */ ([["best", "Best first"], ["taste", "My taste"], ["alike", "Most alike first"], ["sharp", "Sharpest first"], ["time", "Newest first"], ["name", "By name"]]);
/** What the orders are called the other way round. */
const REVERSED = { best: "Least good first", taste: "My taste, backwards", alike: "Least alike first", sharp: "Least sharp first", time: "Oldest first", name: "By name, backwards" };

/**
 * @param {import("./state.js").Store} store
 * @param {{onSize: (size: Size) => void, onKeys: () => void, onFirst: () => void, onRate: () => void, onRead: () => void, onWrite: () => void, onView: (view: State["view"]) => void, library: () => Library | null}} act
 */
export function createToolbar(store, act) {
  const railButton = byId("rail-button");
  const rail = byId("rail");
  const railCount = h("span", { class: "rail-count" });
  const railSet = h("span", { class: "for-readers" });
  railButton.append(icon("filters"), h("span", { class: "label", text: "Filters" }), railCount, railSet);
  railButton.title = "Filters (F)";
  railButton.addEventListener("click", () => showRail(document.body.classList.contains("without-rail")));
  byId("rail-head").append(h("h2", { text: "Filters" }), iconButton("close", "Close the filters", () => showRail(false)));

  /** @param {boolean} open */
  function showRail(open, keep = true) {
    document.body.classList.toggle("without-rail", !open);
    railButton.setAttribute("aria-expanded", String(open));
    rail.inert = !open;
    if (keep && innerWidth >= 760) localStorage.setItem(KEPT_RAIL, open ? "1" : "0");
    if (keep && !open && rail.contains(document.activeElement)) railButton.focus();
  }
  showRail(innerWidth >= 760 && (localStorage.getItem(KEPT_RAIL) ?? "1") === "1", false);
  matchMedia("(max-width: 759px)").addEventListener("change", ({ matches }) => showRail(!matches && (localStorage.getItem(KEPT_RAIL) ?? "1") === "1", false));

  const views = VIEWS.map(([view, title, drawing, key]) =>
    h("button", { type: "button", class: "segment", title: `${title} (${key})`, onclick: () => act.onView(view) }, icon(drawing), h("span", { class: "label", text: title })));
  byId("views").append(...views);

  const order = h("select", { class: "select", "aria-label": "Order", onchange: () => store.set({ order: /** @type {State["order"]} */ (order.value), reversed: false }) });
  const reverse = iconButton("down", "The other way round", () => store.set({ reversed: !store.get().reversed }));
  byId("order").append(order, reverse);

  const kept = localStorage.getItem(KEPT_SIZE);
  let size = /** @type {Size} */ (kept === "S" || kept === "L" ? kept : "M");
  const sizes = /** @type {Size[]} */ (["S", "M", "L"]).map((one) =>
    h("button", { type: "button", class: "segment", role: "radio", "aria-label": { S: "Small", M: "Medium", L: "Large" }[one], text: one, onclick: () => setSize(one), onkeydown: (/** @type {KeyboardEvent} */ event) => walkSizes(event) }));
  byId("sizes").append(...sizes);

  /** @param {KeyboardEvent} event */
  function walkSizes(event) {
    const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    changeSize(by);
    sizes[["S", "M", "L"].indexOf(size)].focus();
  }
  /** @param {Size} next */
  function setSize(next) {
    size = next;
    localStorage.setItem(KEPT_SIZE, size);
    sizes.forEach((button, place) => {
      const on = "SML"[place] === size;
      button.setAttribute("aria-checked", String(on));
      button.tabIndex = on ? 0 : -1;
    });
    act.onSize(size);
  }
  /** @param {number} by */
  function changeSize(by) {
    setSize(/** @type {Size} */ ("SML"[Math.max(0, Math.min(2, "SML".indexOf(size) + by))]));
  }

  const [theme, help] = [iconButton("light", "Dark or light", toggleTheme), iconButton("help", "Keys", act.onKeys, "?")];
  for (const one of [theme, help]) one.classList.add("wide-only");
  byId("tools").append(
    iconButton("rate", "Rate these next", act.onRate, "R"), theme, help,
    iconButton("more", "More", () => showMore()));

  function showMore() {
    const library = act.library();
    const close = () => dialog.close("");
    const item = (/** @type {string} */ text, /** @type {() => void} */ run) => h("button", { type: "button", class: "menu-item", text, onclick: () => { close(); run(); } });
    const details = h("dl", { class: "facts-list" });
    for (const [term, value] of Object.entries({ folder: library?.folder ?? "", "copies go to": library?.copies_folder ?? "", ...library?.details })) {
      if (value !== "" && value !== null) details.append(h("dt", { text: term }), h("dd", { text: String(value) }));
    }
    const dialog = openDialog(library?.title ?? "",
      h("div", { class: "menu" }, item("Select the first…", act.onFirst), item("Take over stars of other programs…", act.onRead), item("Write stars for other programs…", act.onWrite), item("Dark or light", toggleTheme), item("Keys", act.onKeys)),
      h("details", {}, h("summary", { text: "Details" }), details));
  }

  return {
    showRail,
    toggleRail: () => showRail(document.body.classList.contains("without-rail")),
    changeSize,
    /** Once all that listens is there. */
    start: () => setSize(size),
    /** @param {State} state @param {import("./types.js").Shown} shown @param {{nFilters: number, hasScore: boolean, hasTaste: boolean, hasTime: boolean, hasSharpness: boolean}} known */
    show(state, shown, { nFilters, hasScore, hasTaste, hasTime, hasSharpness }) {
      const possible = { best: hasScore, taste: hasTaste, alike: isSearching(state), sharp: hasSharpness, time: hasTime, name: true };
      const wanted = ORDERS.filter(([name]) => possible[name] || name === state.order);
      const content = wanted.map(([name]) => `${name}${state.reversed && name === state.order}`).join(" ");
      if (order.dataset.content !== content) {
        order.dataset.content = content;
        order.replaceChildren(...wanted.map(([name, text]) => h("option", { value: name, text: state.reversed && name === state.order ? REVERSED[name] : text })));
      }
      order.value = state.order;
      reverse.setAttribute("aria-pressed", String(state.reversed));
      reverse.replaceChildren(icon(state.reversed ? "up" : "down"));
      views.forEach((button, place) => {
        if (VIEWS[place][0] === state.view) button.setAttribute("aria-current", "page");
        else button.removeAttribute("aria-current");
      });
      setText(byId("title-count"), shown.n === shown.total ? formatCount(shown.total) : `${formatCount(shown.n)} of ${formatCount(shown.total)}`);
      setText(railCount, nFilters ? String(nFilters) : "");
      setText(railSet, nFilters ? " set" : "");
    },
  };
}
