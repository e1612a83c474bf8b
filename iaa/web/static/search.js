/** The search box: words and pictures as chips that refine each other. */

import { sentPictureAddress, thumbnailAddress } from "./api.js";
import { byId, h, icon, iconButton, setAttribute } from "./dom.js";
import { isSearching } from "./state.js";
import { countOf } from "./words.js";

/** @typedef {import("./types.js").State} State */

/**
 * @param {import("./state.js").Store} store
 * @param {{
 *   library: () => import("./types.js").Library | null, thumbOf: (key: string) => {name: string, thumb: string},
 *   usualOrder: () => State["order"], countNames: (part: string) => number, send: (picture: Blob) => Promise<{token: string}>, say: (text: string, kind?: "" | "problem") => void,
 * }} act
 */
export function createSearch(store, act) {
  const box = byId("search");
  const chips = h("div", { class: "chips", role: "group", "aria-label": "What is searched for" });
  const input = h("input", { id: "search-input", type: "text", role: "combobox", autocomplete: "off", spellcheck: "false", enterkeyhint: "search", "aria-label": "Search", "aria-expanded": "false", "aria-controls": "search-offers" });
  const choose = h("input", { type: "file", accept: "image/*,.heic,.heif", hidden: true, "aria-label": "Picture to search by", onchange: () => {
    const file = choose.files?.[0];
    if (file) void sendPicture(file);
    choose.value = "";
  } });
  const pictureButton = iconButton("plus", "Search by a picture (or drop or paste one anywhere)", () => choose.click());
  const offers = h("div", { class: "offers", id: "search-offers", role: "listbox", "aria-label": "Ways to search" });
  offers.hidden = true;
  box.append(icon("search"), chips, input, pictureButton, choose, offers);

  /** @type {{text: string, quiet: string, run: (() => void) | null}[]} */
  let offered = [];
  let chosen = 0;

  /** What can be done with what is typed. */
  function listOffers() {
    const text = input.value.trim();
    const library = act.library();
    offered = [];
    if (text) {
      const n = act.countNames(text);
      const byName = { text: `File names with "${text}"`, quiet: countOf(n), run: () => store.set({ name: text, open: "", compare: [] }) };
      if (library?.words ?? true) offered.push({ text: `Photographs of "${text}"`, quiet: "Enter", run: () => searchFor(text) });
      offered.push(byName);
      if (library && !library.words) offered.push({ text: "What is in photographs can't be searched by words here", quiet: library.why_no_words, run: null });
    }
    chosen = 0;
    paintOffers();
  }

  function paintOffers() {
    offers.replaceChildren(...offered.map(({ text, quiet, run }, place) => {
      const offer = h("div", { class: run ? "offer" : "offer explanation", role: "option", id: `offer-${place}`, "aria-selected": String(place === chosen && run !== null), "aria-disabled": run ? null : "true" },
        h("span", { text }), h("span", { class: "quiet", text: quiet }));
      offer.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        take(place);
      });
      return offer;
    }));
    offers.hidden = offered.length === 0;
    setAttribute(input, "aria-expanded", String(!offers.hidden));
    setAttribute(input, "aria-activedescendant", offers.hidden ? null : `offer-${chosen}`);
  }

  /** @param {number} place */
  function take(place) {
    const run = offered[place]?.run;
    if (!run) return;
    input.value = "";
    offered = [];
    paintOffers();
    run();
  }

  /** @param {string} text */
  function searchFor(text) {
    const { texts } = store.get();
    begin({ texts: texts.includes(text) ? texts : [...texts, text] });
  }

  /** Adds to the search; its likeness gives the order. @param {Partial<State>} patch */
  function begin(patch) {
    store.set({ ...patch, order: "alike", reversed: false, alike: null, open: "", compare: [], view: store.get().view === "map" ? "all" : store.get().view });
  }

  /** Takes one part away; with the last one the order is the usual again. @param {Partial<State>} patch */
  function without(patch) {
    const left = isSearching({ ...store.get(), ...patch });
    store.set({ ...patch, alike: null, ...(left ? {} : { order: act.usualOrder() }) });
    input.focus();
  }

  /** @param {Blob} picture */
  async function sendPicture(picture) {
    box.classList.add("busy");
    try {
      const { token } = await act.send(picture);
      begin({ pictures: [...store.get().pictures, token] });
    } catch (error) {
      act.say(error instanceof Error ? error.message : String(error), "problem");
    } finally {
      box.classList.remove("busy");
    }
  }

  input.addEventListener("input", listOffers);
  input.addEventListener("blur", () => {
    offers.hidden = true;
    setAttribute(input, "aria-expanded", "false");
  });
  input.addEventListener("focus", listOffers);
  input.addEventListener("keydown", (event) => {
    const n = offered.filter(({ run }) => run).length;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (n) chosen = (chosen + (event.key === "ArrowDown" ? 1 : n - 1)) % n;
      paintOffers();
    } else if (event.key === "Enter") {
      take(chosen);
    } else if (event.key === "Escape") {
      if (input.value) {
        input.value = "";
        listOffers();
      } else input.blur();
    } else if (event.key === "Backspace" && !input.value) {
      const { texts, likes, pictures } = store.get();
      if (pictures.length) without({ pictures: pictures.slice(0, -1) });
      else if (likes.length) without({ likes: likes.slice(0, -1) });
      else if (texts.length) without({ texts: texts.slice(0, -1) });
      return;
    } else return;
    event.preventDefault();
  });
  box.addEventListener("pointerdown", (event) => {
    if (event.target === box || event.target === chips) {
      event.preventDefault();
      input.focus();
    }
  });

  listenToPictures((picture) => void sendPicture(picture));

  /** @param {string} name @param {Node} content @param {() => void} remove */
  function chip(name, content, remove) {
    return h("span", { class: "chip" }, content, iconButton("close", `Stop searching for ${name}`, remove));
  }

  /** @param {string} src */
  const small = (src) => h("img", { class: "chip-picture", alt: "", src });

  return {
    focus: () => input.focus(),
    begin,
    searchFor,
    /** @param {State} state */
    show(state) {
      const library = act.library();
      const made = [
        ...state.texts.map((text, place) => chip(text, h("span", { class: "ellipsis", text }), () => without({ texts: state.texts.filter((_, other) => other !== place) }))),
        ...state.likes.map((key, place) => {
          const { name, thumb } = act.thumbOf(key);
          const content = h("span", { class: "chip-content" }, small(thumbnailAddress(key, thumb)), h("span", { class: "ellipsis", text: `like ${name}` }));
          return chip(`photographs like ${name}`, content, () => without({ likes: state.likes.filter((_, other) => other !== place) }));
        }),
        ...state.pictures.map((token, place) => {
          const image = small(sentPictureAddress(token));
          image.addEventListener("error", () => {
            act.say("The picture that was dropped is no longer here: drop it again.", "problem");
            without({ pictures: store.get().pictures.filter((one) => one !== token) });
          });
          const content = h("span", { class: "chip-content" }, image, h("span", { class: "ellipsis", text: "your picture" }));
          return chip("your picture", content, () => without({ pictures: state.pictures.filter((_, other) => other !== place) }));
        }),
      ];
      const content = JSON.stringify([state.texts, state.likes, state.pictures, state.likes.map((key) => act.thumbOf(key).name)]);
      if (chips.dataset.content !== content) {
        chips.dataset.content = content;
        chips.replaceChildren(...made);
      }
      const refine = isSearching(state);
      input.placeholder = refine ? "refine…" : library && !library.words ? "Search by a picture, or by file name" : innerWidth < 760 ? "Search: a dog on a beach" : "Search for anything: a dog on a beach";
    },
  };
}

/** Pictures that are dropped or pasted anywhere. @param {(picture: Blob) => void} onPicture */
function listenToPictures(onPicture) {
  const veil = byId("drop-veil");
  let inside = 0;
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files") ?? false;
  addEventListener("dragenter", (event) => {
    if (!hasFiles(event)) return;
    inside += 1;
    veil.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!hasFiles(event)) return;
    inside -= 1;
    if (inside <= 0) veil.hidden = true;
  });
  addEventListener("dragover", (event) => {
    if (hasFiles(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    inside = 0;
    veil.hidden = true;
    const file = event.dataTransfer?.files[0];
    if (file) onPicture(file);
  });
  addEventListener("paste", (event) => {
    const file = event.clipboardData?.files[0];
    if (!file) return;
    event.preventDefault();
    onPicture(file);
  });
}
