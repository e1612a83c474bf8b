/** Dark or light: as the system says until someone chooses. Runs before the page is drawn. */

const KEPT = "theme";

/** @typedef {"" | "dark" | "light"} Theme */

/** @param {Theme} theme */
function apply(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

export function toggleTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const now = document.documentElement.dataset.theme || system;
  const next = now === "dark" ? "light" : "dark";
  localStorage.setItem(KEPT, next === system ? "" : next);
  apply(next === system ? "" : next);
  dispatchEvent(new Event("theme"));
}

apply(/** @type {Theme} */ (localStorage.getItem(KEPT) ?? ""));
