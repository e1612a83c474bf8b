/** The line at the foot: what the program behind the page is doing, and whether it is there at all. */

import { ApiError } from "./api.js";
import { byId, h, setText } from "./dom.js";
import { countOf, formatCount, formatLeft } from "./words.js";

/** @typedef {import("./types.js").Progress} Progress */

const BUSY = ["listing", "starting", "embedding"];

/**
 * @param {import("./api.js").Api} api
 * @param {{version: () => string, onNews: () => Promise<void>, onProgress: (progress: Progress | null) => void}} tell
 */
export function createStatus(api, tell) {
  const element = byId("status");
  const text = h("span", { class: "status-text" });
  const fill = h("div", { class: "progress-fill" });
  const bar = h("div", { class: "progress", role: "progressbar", "aria-label": "Photographs looked at", "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
  const button = h("button", { type: "button", class: "button", onclick: () => void pauseOrGoOn() });
  const spoken = h("span", { class: "for-readers", role: "status" });
  element.append(bar, text, button, spoken);

  /** @type {Progress | null} */
  let progress = null;
  let gone = false;
  let timer = 0;
  let lastNews = 0;
  let newsTook = 0;

  async function pauseOrGoOn() {
    button.disabled = true;
    try {
      await (progress?.phase === "stopped" ? api.start() : api.stop());
    } catch {
      // The next poll says what is the case.
    }
    button.disabled = false;
    void poll();
  }

  async function poll() {
    clearTimeout(timer);
    try {
      const before = progress;
      const now = await api.progress(tell.version());
      const changed = JSON.stringify(now) !== JSON.stringify(before);
      progress = now;
      const busy = BUSY.includes(progress.phase);
      const done = before !== null && BUSY.includes(before.phase) && !busy;
      // A long list takes a while to send: it is fetched so seldom that it never is what the page mostly does.
      const due = performance.now() - lastNews > Math.max(2500, 25 * newsTook);
      if (progress.version !== tell.version() && (due || done || !busy)) {
        const start = performance.now();
        await tell.onNews();
        newsTook = performance.now() - start;
        lastNews = performance.now();
      }
      paint();
      if (changed) tell.onProgress(progress);
      timer = window.setTimeout(poll, busy ? 1000 : 10_000);
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) {
        paintProblem(error.message);
        return;
      }
      timer = window.setTimeout(poll, 1500);
    }
  }

  function paint() {
    if (gone) return paintProblem("The program behind this page does not answer: it was stopped, or the computer sleeps. This page goes on as soon as it is back.");
    if (!progress) return;
    const { phase, message, done, total, failed, rate, seconds_left: left } = progress;
    element.classList.remove("problem");
    const counted = total ? `${formatCount(done)} of ${formatCount(total)}` : "";
    const bad = failed ? `${formatCount(failed)} could not be read` : "";
    const speed = rate ? `${rate < 10 ? rate.toFixed(1) : Math.round(rate)}/s` : "";
    const parts = {
      listing: ["Looking for photographs", counted],
      starting: ["Getting ready to look at photographs"],
      embedding: [`Looking at photographs: ${counted}`, speed, formatLeft(left), bad],
      stopped: [`Paused at ${counted}`, bad],
      failed: [message || "Something went wrong"],
      ready: [],
    }[phase];
    const line = parts.filter(Boolean).join(" · ");
    element.hidden = line === "";
    element.classList.toggle("problem", phase === "failed");
    setText(text, line);
    text.title = message;
    bar.hidden = !["embedding", "stopped"].includes(phase) || !total;
    fill.style.width = `${total ? (100 * done) / total : 0}%`;
    bar.setAttribute("aria-valuenow", String(total ? Math.round((100 * done) / total) : 0));
    bar.setAttribute("aria-valuetext", countOf(done));
    button.hidden = !["embedding", "stopped", "failed"].includes(phase);
    setText(button, phase === "embedding" ? "Pause" : phase === "failed" ? "Try again" : "Go on");
    setText(spoken, phase === "embedding" ? "" : line);
    document.body.classList.toggle("with-status", !element.hidden);
  }

  /** @param {string} line */
  function paintProblem(line) {
    element.hidden = false;
    element.classList.add("problem");
    bar.hidden = true;
    button.hidden = true;
    setText(text, line);
    setText(spoken, line);
    document.body.classList.add("with-status");
  }

  return {
    start: () => void poll(),
    progress: () => progress,
    /** @param {boolean} now */
    setGone(now) {
      if (now === gone) return;
      gone = now;
      if (!gone) {
        element.classList.remove("problem");
        setText(spoken, "The program is back.");
        void poll();
      } else {
        clearTimeout(timer);
        timer = window.setTimeout(poll, 1500);
      }
      paint();
    },
  };
}
