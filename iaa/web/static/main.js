/** Puts the parts of the page together: who is told of what, and what the keys do. */

import { createActions } from "./actions.js";
import { followAddress, readAddress } from "./address.js";
import { createApi } from "./api.js";
import { createCompare } from "./compare.js";
import { ask, askPair, say } from "./dialog.js";
import { byId } from "./dom.js";
import { createGrid } from "./grid.js";
import { gridItems, markingOrder, photographAt } from "./items.js";
import { listenToKeys, showKeys } from "./keys.js";
import { createLibrary, scoreQuery, searchQuery } from "./library.js";
import { createLine } from "./line.js";
import { createMap } from "./map.js";
import { createMarking } from "./marking.js";
import { createRail } from "./rail.js";
import { createRatings } from "./ratings.js";
import { createResort } from "./resort.js";
import { createSearch } from "./search.js";
import { createSelection } from "./selection.js";
import { compute, orderRows } from "./shown.js";
import { createSidecars } from "./sidecars.js";
import { createSitting } from "./sitting.js";
import { countFilters, createStore, initialState, isSearching } from "./state.js";
import { createStatus } from "./status.js";
import { createToolbar } from "./toolbar.js";
import { createUndoing } from "./undoing.js";
import { createViewer } from "./viewer.js";
import { countOf, KINDS } from "./words.js";
import { createWorth } from "./worth.js";

/** @typedef {import("./types.js").State} State */

const api = createApi((gone) => status.setGone(gone));
const library = createLibrary(api, { onChange: () => schedule(), onProblem: (message) => say(message, "problem") });
const initial = initialState();
const store = createStore(readAddress(location.hash, initial));
followAddress(store, initial);

const undoing = createUndoing(() => void ratings.undoEarlier().catch((error) => say(`Nothing was undone. ${error.message}`, "problem")));
const selection = createSelection(() => {
  grid.repaint();
  map.redraw();
  actions.repaint();
  if (viewer.isOpen()) viewer.repaint();
}, () => undoing.did(() => selection.undo()));

const ratings = createRatings(api, {
  onChange: () => schedule(),
  onRefused: (tasks, reason) => marking.refused(tasks, reason),
  onUndone: (keys, before) => {
    marking.undoneEarlier(keys, before);
    if (keys.length) showAgain(keys[0]);
  },
});
const marking = createMarking(ratings, undoing, {
  nameOf: (key) => known().photographs.name[library.rowOf(key)] ?? "a photograph that is gone",
  say,
  onUndo: (changes) => (sitting.isOpen() ? sitting.returnTo(changes[0]) : changes.length === 1 && showAgain(changes[0].key)),
});
const worth = createWorth(api, ratings, { onChange: () => schedule(), onOrder: showMyOrder, onResort: resortNow });
const resort = createResort();

/** @type {import("./types.js").Order | null} */
let heldTaste = null;
const known = () => {
  const photographs = library.photographs();
  return { photographs, score: library.score(), search: library.search(), taste: heldTaste, groups: library.groups(), marks: ratings.columns(photographs) };
};
let shown = compute(store.get(), known());

// What is shown

const isOnMap = () => store.get().view === "map" && !store.get().group;

/** Whether the grid has to begin at its top with the next paint. */
let reset = true;
let scheduled = 0;
/** Whether photographs were shown already. */
let begun = false;
/** Milliseconds after the page's beginning for which their first order is waited for. */
const PATIENCE = 1500;

/** Paints once however many things have changed. */
function schedule() {
  library.want(store.get(), status.progress()?.phase === "ready", ratings.isAny() ? ratings.last() : -1);
  ratings.follow(library.photographs());
  worth.follow();
  if (!scheduled) scheduled = requestAnimationFrame(() => {
    scheduled = 0;
    paint();
  });
}

function paint() {
  const state = store.get();
  heldTaste = resort.hold(library.taste(), reset || state.order !== "taste");
  const now = known();
  shown = compute(state, now);
  const waiting = library.isBusy("score") || library.isBusy("search") || (state.order === "taste" && !heldTaste && library.isBusy("taste"));
  // The first order is worth a moment: photographs that stand and then jump are worse than placeholders.
  if (!begun && waiting && performance.now() < PATIENCE) {
    setTimeout(schedule, 50);
    return;
  }
  begun = begun || now.photographs.key.length > 0;
  const onMap = isOnMap();
  byId("scroller").hidden = onMap;
  byId("map").hidden = !onMap;
  if (onMap) paintMap();
  else grid.show(gridItems(state, shown, now, selection), reset && now.photographs.key.length > 0);
  if (!waiting && now.photographs.key.length > 0) reset = false;
  rail.show(state, now, shown, library.info());
  const { photographs } = now;
  toolbar.show(state, shown, {
    nFilters: countFilters(state),
    hasScore: scoreQuery(state, library.info()) !== "",
    hasTaste: ratings.isAny(),
    hasTime: photographs.taken.some((one) => one !== null),
    hasSharpness: photographs.sharpness.some((one) => one !== null),
  });
  search.show(state);
  const order = markingOrder(state, now);
  line.show(state, shown, now, {
    progress: status.progress(), busySearch: library.isBusy("search"), searchProblem: library.problemOf("search"), groupsProblem: library.problemOf("groups"),
    nWithout: order && state.view === "all" && !state.group ? shown.rows.reduce((n, row) => n + (Number.isNaN(order.score[row]) ? 1 : 0), 0) : 0,
    isRated: ratings.isAny(),
  });
  worth.paint(state.order === "taste" && state.view === "all" && resort.isWaiting());
  sitting.paint();
  paintViewer();
  actions.repaint();
}

function paintMap() {
  const points = library.points();
  const { photographs } = known();
  if (!points) {
    const text = library.problemOf("points") || "Drawing the map…";
    map.show({ length: 0, at: (row) => photographAt(photographs, row), x: new Float64Array(0), y: new Float64Array(0), passes: () => false, isSelected: () => false, markOf: ratings.of }, text);
    return;
  }
  const place = new Int32Array(photographs.key.length).fill(-1);
  points.rows.forEach((row, at) => {
    place[row] = at;
  });
  const rows = orderRows(store.get(), known()).filter((row) => place[row] >= 0);
  map.show({
    length: rows.length,
    at: (point) => photographAt(photographs, rows[point]),
    x: Float64Array.from(rows, (row) => points.x[place[row]]),
    y: Float64Array.from(rows, (row) => points.y[place[row]]),
    passes: (point) => shown.mask[rows[point]] === 0,
    isSelected: selection.has,
    markOf: ratings.of,
  }, rows.length ? "" : "The map is drawn once photographs have been looked at.");
}

// One photograph and several

/** Whether "back" leads out of the open photograph, because it was opened on this page. */
let openedHere = false;

function paintViewer() {
  const { open, compare: compared, mode } = store.get();
  const { photographs } = known();
  if (!mode) sitting.close();
  else if (photographs.key.length) sitting.show(mode);
  const some = compared.map((key) => library.rowOf(key)).filter((row) => row >= 0);
  if (some.length >= 2 && !mode) compare.show(some.map((row) => photographAt(photographs, row)));
  else compare.close();
  const row = open ? library.rowOf(open) : -1;
  if (row >= 0 && some.length < 2 && !mode) {
    const at = shown.rows.indexOf(row);
    if (at >= 0) viewer.show({ length: shown.rows.length, at: (item) => photographAt(photographs, shown.rows[item]) }, at);
    else viewer.show({ length: 1, at: () => photographAt(photographs, row) }, 0);
  } else viewer.close();
  const covered = viewer.isOpen() || compare.isOpen() || sitting.isOpen();
  const uncovered = byId("page").inert && !covered;
  byId("page").inert = covered;
  if (uncovered && store.get().view !== "map") grid.focus();
}

/** @param {string} key */
function open(key) {
  openedHere = openedHere || !store.get().open;
  store.set({ open: key, compare: [] }, { push: !store.get().open });
}

/** @param {number} item */
function openItem(item) {
  const stack = shown.stacks[item];
  const groups = library.groups();
  if (stack >= 0 && groups) {
    // The first click of a double click has selected what lies on top: nobody meant that.
    if (selection.size === 1 && selection.has(keyAt(item))) selection.clear();
    store.set({ group: groups.groups[stack].id });
  } else open(keyAt(item));
}

function closeViewer() {
  const { open: key } = store.get();
  const leads = openedHere;
  // "Back" comes only later; what is shown closes at once.
  store.set({ open: "" }, { push: !leads });
  if (leads) history.back();
  if (key) grid.activateKey(key);
}

const viewer = createViewer({
  onMove(item) {
    const key = known().photographs.key[shown.rows[item]];
    store.set({ open: key }, { push: false });
    grid.activateKey(key);
  },
  onClose: closeViewer,
  onAlike: (key) => moreLike(key, false),
  onGroup(key) {
    const groups = library.groups();
    const index = groups ? groups.of[library.rowOf(key)] : -1;
    if (groups && index >= 0) store.set({ group: groups.groups[index].id, open: "" });
  },
  onSelect: (key) => selection.toggle(key),
  onWord: (text) => search.begin({ texts: [text], likes: [], pictures: [] }),
  reveal: (key) => void api.reveal(key).catch((error) => say(String(error.message), "problem")),
  onStars: (n) => marking.rate([viewer.key()], "stars", n),
  onFlag: (flag) => marking.rate([viewer.key()], "flag", flag),
  markOf: ratings.of,
  facts: api.facts,
  marks(key) {
    const row = library.rowOf(key);
    const { score, search: alike } = known();
    const marks = [...markOf(score, row, false), ...markOf(alike, row, true)];
    const own = store.get().order === "taste" ? markOf(heldTaste, row, false) : [];
    return [...own, ...(store.get().order === "alike" ? marks.reverse() : marks)];
  },
  groupText(key) {
    const groups = library.groups();
    const index = groups ? groups.of[library.rowOf(key)] : -1;
    if (!groups || index < 0) return "";
    const { kind, rows } = groups.groups[index];
    return `One of ${rows.length}: ${KINDS[kind].one}`;
  },
  isSelected: selection.has,
});

const compare = createCompare({
  onClose: () => closeCompare(),
  onKeep(key) {
    const others = store.get().compare.filter((one) => one !== key);
    selection.choose([...selection.keys().filter((one) => !others.includes(one) && one !== key), key]);
    closeCompare();
    const row = library.rowOf(key);
    say(`Kept ${known().photographs.name[row] ?? ""}; ${countOf(others.length, "other")} left the selection. Ctrl+Z takes it back.`);
    grid.activateKey(key);
  },
  onDrop(key) {
    const left = store.get().compare.filter((one) => one !== key);
    if (left.length < 2) closeCompare();
    else store.set({ compare: left }, { push: false });
  },
  onOpen: (key) => store.set({ compare: [], open: key }),
  marks: (key) => markOf(known().score, library.rowOf(key), false),
  onStars: (key, n) => marking.rate([key], "stars", n),
  onFlag: (key, flag) => marking.rate([key], "flag", flag),
  markOf: ratings.of,
});

// Rating

/** Whether "back" leads out of the sitting, because it was begun on this page. */
let satHere = false;

/** @param {State["mode"]} mode */
function setMode(mode) {
  const isBegun = store.get().mode !== "";
  satHere = satHere || !isBegun;
  store.set({ mode, open: "", compare: [] }, { push: !isBegun });
}

function closeSitting() {
  const leads = satHere;
  if (store.get().order === "taste" && resort.isWaiting()) reset = true;
  store.set({ mode: "" }, { push: !leads });
  if (leads) history.back();
}

function showMyOrder() {
  reset = true;
  store.set({ mode: "", open: "", compare: [], order: "taste", reversed: false, view: "all", group: "" });
}

/** The photograph that is focused, open, or on the map under the pointer; all that are selected if it is one of them. */
function rateThese() {
  if (compare.isOpen()) return [compare.key()];
  if (viewer.isOpen()) return [viewer.key()];
  const key = isOnMap() ? map.under() : keyAt(grid.active());
  // On the map none need be meant but those that were drawn around.
  if (!key) return isOnMap() ? selection.keys() : [];
  return selection.has(key) ? selection.keys() : [key];
}

/** @param {"stars" | "flag"} kind @param {number} value */
function rate(kind, value) {
  const keys = rateThese();
  marking.rate(keys, kind, value);
  if (!keys.length && isOnMap()) say("Point at a photograph, or select some, to rate them.");
  if (keys.length !== 1) return;
  if (compare.isOpen()) compare.step(1);
  else if (viewer.isOpen()) viewer.step(1);
  else if (!isOnMap()) {
    grid.focus();
    grid.activate(grid.active() + 1);
  }
}

/** Goes back to a photograph whose rating was undone, once it is where it was. @param {string} key */
function showAgain(key) {
  if (viewer.isOpen()) {
    if (shown.rows.includes(library.rowOf(key))) store.set({ open: key }, { push: false });
  } else if (!compare.isOpen()) requestAnimationFrame(() => requestAnimationFrame(() => grid.activateKey(key)));
}

function resortNow() {
  if (!resort.isWaiting()) return;
  reset = true;
  schedule();
}

const sitting = createSitting(api, ratings, marking, worth, {
  photographOf(key) {
    const row = library.rowOf(key);
    return row < 0 ? null : photographAt(known().photographs, row);
  },
  groupOf(key) {
    const groups = library.groups();
    const index = groups ? groups.of[library.rowOf(key)] ?? -1 : -1;
    return groups && index >= 0 ? groups.groups[index].id : "";
  },
  onMode: setMode,
  onClose: closeSitting,
  onOrder: showMyOrder,
  onUndo: () => undoing.undo(),
});

/** @param {import("./types.js").Order | null} order @param {number} row @param {boolean} isLikeness @returns {import("./facts.js").Mark[]} */
function markOf(order, row, isLikeness) {
  return order ? [{ title: order.title, score: order.score[row], percentile: order.percentile[row], isLikeness }] : [];
}

function closeCompare() {
  store.set({ compare: [] });
}

function compareSelected() {
  const keys = selection.size ? selection.keys() : store.get().group ? [...shown.rows].slice(0, 4).map((row) => known().photographs.key[row]) : [];
  if (keys.length < 2 || keys.length > 4) say("Select two to four photographs to compare them.");
  else store.set({ compare: keys });
}

/** @param {string} key @param {boolean} refine */
function moreLike(key, refine) {
  if (!key) return;
  const { likes } = store.get();
  search.begin(refine ? { likes: likes.includes(key) ? likes : [...likes, key] } : { texts: [], pictures: [], likes: [key] });
}

// The rest of the page

const grid = createGrid(byId("scroller"), {
  onOpen: openItem,
  onClear: () => selection.clear(),
  isSelecting: () => selection.size > 0,
  onSelect(item, how) {
    const key = keyAt(item);
    if (how === "only") selection.only(key);
    else if (how === "toggle") selection.toggle(key);
    else selectTo(item);
  },
});

const map = createMap({
  onOpen: open,
  onSelect(keys, add) {
    selection.choose(keys, add);
    if (keys.length > 1) say(`${countOf(keys.length)} selected.`);
  },
});

/** @param {number} item */
const keyAt = (item) => known().photographs.key[shown.rows[item]] ?? "";

/** From where the range began to this one. @param {number} item */
function selectTo(item) {
  const anchor = shown.rows.indexOf(library.rowOf(selection.anchor()));
  const from = anchor >= 0 ? anchor : item;
  if (anchor < 0) selection.setAnchor(keyAt(item));
  const keys = [];
  for (let i = Math.min(from, item); i <= Math.max(from, item); i++) keys.push(keyAt(i));
  selection.choose(keys);
}

function selectAll() {
  selection.choose([...shown.rows].map((row) => known().photographs.key[row]));
}

async function selectFirst() {
  const answer = await ask({ title: "Select the first", label: "How many", value: "30", type: "number", about: ["The first in the order and with the filters of now."], ok: "Select" });
  const n = Number(answer);
  if (answer && n > 0) selection.choose([...shown.rows].slice(0, n).map((row) => known().photographs.key[row]));
}

/** @param {State["view"]} view */
function setView(view) {
  store.set({ view, group: "", open: "", compare: [], mode: "" });
}

async function choosePair() {
  const { high, low } = store.get();
  const pair = await askPair(high || "beautiful", low || "ugly");
  if (pair) store.set({ ...pair, score: null, order: "best", reversed: false });
  else paint();
}

const sidecars = createSidecars(api, { library: library.info, say, onRead: () => void ratings.refresh() });
const toolbar = createToolbar(store, {
  onSize: (size) => grid.setSize(size), onKeys: () => showKeys(bindings), onFirst: () => void selectFirst(), onRate: () => setMode("rate"), onRead: sidecars.read, onWrite: sidecars.write, onView: setView, library: library.info,
});
const rail = createRail(store, { onPair: () => void choosePair() });
const line = createLine(store, { onSelectAll: selectAll });
const search = createSearch(store, {
  library: library.info,
  thumbOf(key) {
    const row = library.rowOf(key);
    return row < 0 ? { name: "a photograph that is gone", thumb: "" } : photographAt(known().photographs, row);
  },
  countNames(part) {
    const wanted = part.toLowerCase();
    return known().photographs.name.reduce((n, name) => n + (name.toLowerCase().includes(wanted) ? 1 : 0), 0);
  },
  usualOrder: () => initial.order,
  send: api.sendPicture,
  say,
});
const actions = createActions(selection, {
  api, library: library.info, onCompare: compareSelected,
  order: () => (store.get().order === "taste" && heldTaste ? "by=taste" : store.get().order === "alike" ? searchQuery(store.get()) : scoreQuery(store.get(), library.info())),
});
const status = createStatus(api, {
  version: () => library.photographs().version,
  onNews: library.refresh,
  onProgress: () => schedule(),
});

// Keys

/** @type {import("./keys.js").Binding[]} */
const bindings = [
  { keys: ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"], shown: "← → ↑ ↓", does: "move", where: ["grid"], run: (name) => move(name) },
  { keys: ["Shift+ArrowLeft", "Shift+ArrowRight", "Shift+ArrowUp", "Shift+ArrowDown", "Shift+Home", "Shift+End", "Shift+PageUp", "Shift+PageDown"], shown: "Shift ← → ↑ ↓", does: "select a range", where: ["grid"], run: (name) => extend(name.slice("Shift+".length)) },
  { keys: ["Enter"], shown: "Enter", does: "open", where: ["grid"], run: () => shown.rows.length && openItem(grid.active()) },
  { keys: ["Space", "Ctrl+Space"], shown: "Space", does: "select or not", where: ["grid"], run: () => shown.rows.length && selection.toggle(keyAt(grid.active())) },
  { keys: ["Ctrl+a"], shown: "Ctrl A", does: "select all of them", where: ["grid"], run: selectAll },
  { keys: ["ArrowLeft", "ArrowUp", "PageUp"], shown: "← →", does: "the one before, the next", where: ["viewer"], run: () => viewer.step(-1) },
  { keys: ["ArrowRight", "ArrowDown", "PageDown"], shown: "", does: "", where: ["viewer"], run: () => viewer.step(1) },
  { keys: ["Space"], shown: "Space", does: "select or not", where: ["viewer"], run: () => selection.toggle(viewer.key()) },
  { keys: ["1", "2", "3", "4", "5"], shown: "1 2 3 4 5", does: "stars, and on to the next", where: ["grid", "viewer", "compare"], run: (name) => rate("stars", Number(name)) },
  { keys: ["1", "2", "3", "4", "5"], shown: "1 2 3 4 5", does: "stars for what is pointed at, or selected", where: ["map"], run: (name) => rate("stars", Number(name)) },
  { keys: ["0"], shown: "0", does: "no stars", where: ["grid", "viewer", "compare", "map"], run: () => rate("stars", 0) },
  { keys: ["x"], shown: "X", does: "reject", where: ["grid", "viewer", "compare", "map"], run: () => rate("flag", -1) },
  { keys: ["p"], shown: "P", does: "pick", where: ["grid", "viewer", "compare", "map"], run: () => rate("flag", 1) },
  { keys: ["u"], shown: "U", does: "unmark: neither picked nor rejected", where: ["grid", "viewer", "compare", "map"], run: () => rate("flag", 0) },
  { keys: ["r"], shown: "R", does: "rate these next", where: ["grid", "viewer"], run: () => setMode("rate") },
  { keys: ["s"], shown: "S", does: "re-sort by my taste", where: ["grid"], run: resortNow },
  { keys: ["1", "2", "3", "4", "5"], shown: "1 2 3 4 5", does: "stars, and on to the next", where: ["rate"], run: (name) => sitting.rate("stars", Number(name)) },
  { keys: ["x"], shown: "X", does: "reject", where: ["rate"], run: () => sitting.rate("flag", -1) },
  { keys: ["p"], shown: "P", does: "pick", where: ["rate"], run: () => sitting.rate("flag", 1) },
  { keys: ["s", "ArrowRight"], shown: "→ S", does: "skip", where: ["rate"], run: () => sitting.step(1) },
  { keys: ["ArrowLeft"], shown: "←", does: "the one before", where: ["rate"], run: () => sitting.step(-1) },
  { keys: ["z"], shown: "Z", does: "100 % or fitted", where: ["rate"], run: () => sitting.zoom.toggle() },
  { keys: ["r"], shown: "R", does: "two at a time", where: ["rate"], run: () => setMode("pairs") },
  { keys: ["a"], shown: "A", does: "the left one is better", where: ["pairs"], run: () => sitting.answer(1) },
  { keys: ["b"], shown: "B", does: "the right one is better", where: ["pairs"], run: () => sitting.answer(-1) },
  { keys: ["="], shown: "=", does: "they are equal", where: ["pairs"], run: () => sitting.answer(0) },
  { keys: ["s", "ArrowRight"], shown: "→ S", does: "skip", where: ["pairs"], run: () => sitting.skipPair() },
  { keys: ["r"], shown: "R", does: "one by one", where: ["pairs"], run: () => setMode("rate") },
  { keys: ["Escape"], shown: "Esc", does: "back", where: ["rate", "pairs"], run: closeSitting },
  { keys: ["z"], shown: "Z", does: "100 % or fitted", where: ["viewer"], run: () => viewer.zoom.toggle() },
  { keys: ["z"], shown: "Z", does: "100 % or fitted, all at once", where: ["compare"], run: () => compare.zoom()?.toggle() },
  { keys: ["+", "="], shown: "+ −", does: "nearer, farther", where: ["viewer", "compare"], run: () => zoomOf()?.zoomBy(1.3) },
  { keys: ["-"], shown: "", does: "", where: ["viewer", "compare"], run: () => zoomOf()?.zoomBy(1 / 1.3) },
  { keys: ["Shift+ArrowLeft", "Shift+ArrowRight", "Shift+ArrowUp", "Shift+ArrowDown"], shown: "Shift ← → ↑ ↓", does: "move an enlarged picture", where: ["viewer", "compare"], run: (name) => zoomOf()?.pan(...shift(name)) },
  { keys: ["i"], shown: "I", does: "facts", where: ["viewer"], run: () => viewer.toggleFacts() },
  { keys: ["ArrowLeft", "ArrowUp"], shown: "← →", does: "choose", where: ["compare"], run: () => compare.step(-1) },
  { keys: ["ArrowRight", "ArrowDown"], shown: "", does: "", where: ["compare"], run: () => compare.step(1) },
  { keys: ["k"], shown: "K", does: "keep the chosen one, the others leave the selection", where: ["compare"], run: () => compare.keep() },
  { keys: ["Enter"], shown: "Enter", does: "open the chosen one", where: ["compare"], run: () => compare.open() },
  { keys: ["c"], shown: "C", does: "compare the selection", where: ["grid", "viewer", "map"], run: compareSelected },
  { keys: ["l"], shown: "L", does: "more like this", where: ["grid", "viewer"], run: () => moreLike(keyNow(), false) },
  { keys: ["Shift+l"], shown: "Shift L", does: "and like this, too", where: ["grid", "viewer"], run: () => moreLike(keyNow(), true) },
  { keys: ["g"], shown: "G", does: "groups, or all photographs", where: ["grid", "map"], run: () => setView(store.get().view === "groups" && !store.get().group ? "all" : "groups") },
  { keys: ["m"], shown: "M", does: "map, or all photographs", where: ["grid", "map"], run: () => setView(store.get().view === "map" ? "all" : "map") },
  { keys: ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], shown: "← → ↑ ↓", does: "move", where: ["map"], run: (name) => map.pan(...shift(name)) },
  { keys: ["+", "="], shown: "+ − Home", does: "nearer, farther, all of it", where: ["map"], run: () => map.zoom(1.3) },
  { keys: ["-"], shown: "", does: "", where: ["map"], run: () => map.zoom(1 / 1.3) },
  { keys: ["Home"], shown: "", does: "", where: ["map"], run: () => map.fit() },
  { keys: ["r"], shown: "R", does: "draw around photographs to select them (or drag with Shift)", where: ["map"], run: () => map.toggleRegion() },
  { keys: ["a"], shown: "A", does: "select what is in view", where: ["map"], run: () => map.selectVisible() },
  { keys: ["f"], shown: "F", does: "filters", where: ["grid", "map"], run: () => toolbar.toggleRail() },
  { keys: ["+", "="], shown: "+ −", does: "larger, smaller pictures", where: ["grid"], run: () => toolbar.changeSize(1) },
  { keys: ["-"], shown: "", does: "", where: ["grid"], run: () => toolbar.changeSize(-1) },
  { keys: ["/"], shown: "/", does: "search", where: ["grid", "map"], run: () => search.focus() },
  { keys: ["Ctrl+z"], shown: "Ctrl Z", does: "undo the last rating or selection", where: ["grid", "viewer", "compare", "map", "rate", "pairs"], run: () => undoing.undo() },
  { keys: ["Escape"], shown: "Esc", does: "select nothing, then lift the group or the view", where: ["grid", "map"], run: escape },
  { keys: ["Escape", "Enter"], shown: "Esc", does: "back", where: ["viewer"], run: closeViewer },
  { keys: ["Escape", "c"], shown: "Esc", does: "back", where: ["compare"], run: closeCompare },
  { keys: ["?"], shown: "?", does: "these keys", where: ["grid", "viewer", "compare", "map", "rate", "pairs"], run: () => showKeys(bindings) },
];

listenToKeys(bindings, () => (sitting.isOpen() ? store.get().mode || "rate" : compare.isOpen() ? "compare" : viewer.isOpen() ? "viewer" : isOnMap() ? "map" : "grid"));

/** @param {string} name */
function move(name) {
  const item = grid.target(name);
  if (item < 0) return;
  grid.focus();
  grid.activate(item);
}

/** @param {string} name */
function extend(name) {
  const item = grid.target(name);
  if (item < 0) return;
  if (!selection.size || shown.rows.indexOf(library.rowOf(selection.anchor())) < 0) selection.setAnchor(keyAt(grid.active()));
  grid.focus();
  grid.activate(item);
  selectTo(item);
}

function escape() {
  const state = store.get();
  if (!byId("rail").inert && innerWidth < 760) toolbar.showRail(false);
  else if (selection.size) selection.clear();
  else if (state.group) store.set({ group: "" });
  else if (state.view !== "all") setView("all");
  else if (isSearching(state)) store.set({ texts: [], likes: [], pictures: [], alike: null, order: initial.order });
}

const zoomOf = () => (compare.isOpen() ? compare.zoom() : viewer.zoom);
const keyNow = () => (viewer.isOpen() ? viewer.key() : keyAt(grid.active()));

/** @param {string} name @returns {[number, number]} */
function shift(name) {
  const x = name.endsWith("Left") ? -0.15 : name.endsWith("Right") ? 0.15 : 0;
  const y = name.endsWith("Up") ? -0.15 : name.endsWith("Down") ? 0.15 : 0;
  return [x, y];
}

// What changes the list begins at its top; what only opens or closes leaves it where it is.
/** @param {State} state */
const listOf = ({ open: _open, compare: _compare, mode: _mode, ...rest }) => JSON.stringify(rest);
store.on((now, before) => {
  if (listOf(now) !== listOf(before)) reset = true;
  if (!now.open) openedHere = false;
  if (!now.mode) satHere = false;
  // At once, not with the next frame: the next key may come before it.
  if (now.open !== before.open || now.compare !== before.compare || now.mode !== before.mode) paintViewer();
  schedule();
});

// Another window, or another program, may have rated meanwhile.
addEventListener("focus", () => void ratings.refresh());
document.addEventListener("visibilitychange", () => document.hidden || void ratings.refresh());

toolbar.start();
// Asked before the list is here, the state would be news, and the list would be fetched twice.
library.load(() => library.want(store.get(), false, -1)).then(chooseFirstOrder, (error) => say(error.message, "problem")).finally(status.start);

/** Without a score, or without times, the first order is another. */
function chooseFirstOrder() {
  const info = library.info();
  const hasTime = library.photographs().taken.some((taken) => taken !== null);
  const order = scoreQuery(initial, info) ? "best" : hasTime ? "time" : "name";
  if (order !== initial.order && store.get().order === initial.order && !location.hash.includes("order=")) {
    initial.order = order;
    store.set({ order: isSearching(store.get()) ? "alike" : order }, { push: false });
  }
  schedule();
}
