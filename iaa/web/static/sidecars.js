/** Stars of other programs, and ours for them: first it is said what would be done, then it is done. */

import { openDialog } from "./dialog.js";
import { h, setText } from "./dom.js";
import { countOf } from "./words.js";

/** @typedef {import("./dialog.js").Offer} Offer */

const SHOWN_PROBLEMS = 5;
const ABOUT = "A sidecar is a small file beside a photograph (name.jpg.xmp) in which photo programs keep stars. Photographs are not touched, and stars that somebody gave in another program are never replaced.";

/**
 * @param {import("./api.js").Api} api
 * @param {{library: () => import("./types.js").Library | null, say: (text: string, kind?: "" | "problem", offer?: Offer) => void, onRead: () => void}} act
 */
export function createSidecars(api, { library, say, onRead }) {
  /**
   * A window that says what would be done and does it.
   * @template T
   * @param {string} title @param {(Node | null)[]} choices
   * @param {{ask: (isDone: boolean) => Promise<T>, told: (answer: T) => string, button: (answer: T) => string, done: (answer: T) => void, problems: (answer: T) => string[]}} how
   */
  function openWindow(title, choices, { ask, told, button, done, problems }) {
    const text = h("p", { role: "status" });
    const list = h("ul", { class: "quiet small" });
    const go = h("button", { type: "button", class: "button primary", onclick: () => void act(true) });
    const dialog = openDialog(title, ...choices.filter((one) => one !== null), text, list, h("p", { class: "quiet", text: ABOUT }),
      h("div", { class: "dialog-buttons" }, h("button", { type: "button", class: "button", text: "Cancel", onclick: () => dialog.close("") }), go));
    let turn = 0;

    /** @param {boolean} isDone */
    async function act(isDone) {
      const mine = ++turn;
      go.disabled = true;
      go.hidden = !isDone;
      setText(text, isDone ? "Working…" : "Looking…");
      try {
        const answer = await ask(isDone);
        if (isDone) {
          dialog.close("");
          done(answer);
          return;
        }
        if (mine !== turn) return;
        const words = button(answer);
        setText(text, told(answer));
        setText(go, words);
        go.hidden = go.disabled = false;
        if (!words) go.hidden = true;
        const all = problems(answer);
        list.replaceChildren(...all.slice(0, SHOWN_PROBLEMS).map((one) => h("li", { text: one })), ...(all.length > SHOWN_PROBLEMS ? [h("li", { text: `and ${all.length - SHOWN_PROBLEMS} more` })] : []));
      } catch (error) {
        if (mine === turn) setText(text, error instanceof Error ? error.message : String(error));
      }
    }
    void act(false);
    return () => void act(false);
  }

  return {
    read: () => void openWindow("Stars of other programs", [], {
      ask: api.readSidecars,
      told: ({ n_found, n_new, n_conflicts }) => [
        n_found ? `${countOf(n_found)} ${n_found === 1 ? "has" : "have"} stars, or are rejected, in sidecars or in the files themselves; ${n_new ? `${n_new.toLocaleString("en")} of these ratings ${n_new === 1 ? "is" : "are"} new here.` : "nothing of it is new here."}` : "No photograph here was rated by another program.",
        n_conflicts ? `${countOf(n_conflicts)} ${n_conflicts === 1 ? "is" : "are"} rated differently in two places: left out.` : "",
      ].filter(Boolean).join(" "),
      button: ({ n_new }) => (n_new ? `Take over ${countOf(n_new, "rating")}` : ""),
      problems: ({ problems }) => problems,
      done({ n_new, act }) {
        onRead();
        say(`${countOf(n_new, "rating")} taken over.`, "", act ? { text: "Undo", run: () => void api.undo(act).then(onRead, (error) => say(`Not undone. ${error.message}`, "problem")) } : undefined);
      },
    }),
    write() {
      const heads = (library()?.heads ?? []).filter(({ name }) => !name.includes("|"));
      const whose = h("select", { class: "select", "aria-label": "Whose stars", onchange: () => look() },
        h("option", { value: "", text: "My own stars" }), ...heads.map(({ name, title }) => h("option", { value: name, text: `Stars by the score: ${title}` })));
      const look = openWindow("Stars for other programs", [whose], {
        ask: (isDone) => api.writeSidecars(whose.value || null, isDone),
        told: ({ n_new, n_changed, n_same, n_kept }) => {
          const parts = [n_new ? `${countOf(n_new, "new sidecar")}` : "", n_changed ? `${countOf(n_changed, "sidecar")} changed` : "", n_kept ? `${n_kept.toLocaleString("en")} left as ${n_kept === 1 ? "it is, since somebody gave other stars there" : "they are, since somebody gave other stars there"}` : "", n_same ? `${n_same.toLocaleString("en")} with these stars already` : ""].filter(Boolean);
          return parts.length ? `${parts.join(", ")}.` : "There is nothing to write.";
        },
        button: ({ n_new, n_changed }) => (n_new + n_changed ? `Write ${countOf(n_new + n_changed, "sidecar")}` : ""),
        problems: ({ problems }) => problems,
        done: ({ n_new, n_changed, problems }) => say(`${countOf(n_new + n_changed, "sidecar")} written.${problems.length ? ` ${countOf(problems.length, "file")} could not be: ${problems[0]}` : ""}`, problems.length ? "problem" : ""),
      });
    },
  };
}
