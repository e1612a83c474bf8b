/** Elements from code. Text is always text: nothing here or anywhere on the page reads a name as HTML. */

/**
 * An element. Properties that are functions listen ("onclick"); true and false set and leave out an
 * attribute; "text" is its text; all others are attributes. There is no "style": the page's policy forbids
 * style attributes.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, unknown>} [properties]
 * @param {...(Node | string | null | false | undefined)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else if (name === "text") element.textContent = String(value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child) element.append(child);
  return element;
}

/** The element of the page's frame with this id. @param {string} id */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`page.html has no element "${id}"`);
  return element;
}

/**
 * Sets a property only where it differs: the browser need not look at what stayed.
 * @param {Element} element @param {string} name @param {string | null} value
 */
export function setAttribute(element, name, value) {
  if (value === null) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** @param {Element} element @param {string} text */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Lines on a field of 16 by 16. */
const ICONS = {
  filters: "M2 4h12M4 8h8M6.5 12h3",
  close: "M4 4l8 8M12 4l-8 8",
  back: "M10 3L5 8l5 5",
  next: "M6 3l5 5-5 5",
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zM10.6 10.6L14 14",
  down: "M8 3v10M4.5 9.5L8 13l3.5-3.5",
  up: "M8 13V3M4.5 6.5L8 3l3.5 3.5",
  more: "M3 8h.01M8 8h.01M13 8h.01",
  check: "M3.5 8.5l3 3 6-7",
  facts: "M8 7.5V12M8 4.5h.01M8 14.5a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13z",
  alike: "M2.5 5.5h8v8h-8zM5.5 5.5v-3h8v8h-3",
  stack: "M2.5 6.5h11v7h-11zM4 4.5h8M5.5 2.5h5",
  grid: "M2.5 2.5h4.5v4.5h-4.5zM9 2.5h4.5v4.5H9zM2.5 9h4.5v4.5h-4.5zM9 9h4.5v4.5H9z",
  map: "M4 5h.01M11 3.5h.01M7.5 8h.01M3.5 12h.01M12 12.5h.01M10.5 9h.01",
  light: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM8 1.5v1M8 13.5v1M1.5 8h1M13.5 8h1M3.4 3.4l.7.7M11.9 11.9l.7.7M12.6 3.4l-.7.7M4.1 11.9l-.7.7",
  help: "M6 6.2a2 2 0 1 1 3 1.8c-.7.4-1 .8-1 1.6M8 12h.01",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  play: "M5 3.5l7 4.5-7 4.5z",
  lasso: "M8 3c3.3 0 6 1.6 6 3.7S11.3 10.4 8 10.4 2 8.8 2 6.7 4.7 3 8 3zM5 10c-1.5 1 0 2.2-.5 4",
  plus: "M8 3.5v9M3.5 8h9",
  minus: "M3.5 8h9",
  star: "M8 1.8l1.9 3.9 4.3.6-3.1 3 .7 4.3L8 11.6l-3.8 2 .7-4.3-3.1-3 4.3-.6z",
  pick: "M4 14V2.5M4 3h8l-2 2.7 2 2.8H4",
  reject: "M4 4l8 8M12 4l-8 8",
  rate: "M6.5 2l1.4 2.9 3.2.4-2.3 2.2.5 3.2-2.8-1.5-2.8 1.5.5-3.2L1.9 5.3l3.2-.4zM11 12h4M13 10v4",
  fit: "M2.5 5.5v-3h3M10.5 2.5h3v3M13.5 10.5v3h-3M5.5 13.5h-3v-3",
};

const DOTTED = new Set(["more", "map"]);
const SVG = "http://www.w3.org/2000/svg";

/** A drawing beside a name: screen readers pass over it. @param {keyof typeof ICONS} name */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", DOTTED.has(name) ? "icon dotted" : "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * A button with a drawing only; its name is for screen readers and as a tip.
 * @param {keyof typeof ICONS} drawing @param {string} name @param {() => void} onclick @param {string} [key]
 */
export function iconButton(drawing, name, onclick, key = "") {
  const properties = { type: "button", class: "icon-button", "aria-label": name, title: key ? `${name} (${key})` : name };
  return h("button", { ...properties, onclick }, icon(drawing));
}
