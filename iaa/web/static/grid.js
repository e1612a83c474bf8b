/** The virtual grid: however many photographs there are, only those near the window are elements. */

import { h } from "./dom.js";
import { itemBeside, justify, lineAt } from "./layout.js";
import { createTile } from "./tile.js";
import { formatCount } from "./words.js";

/** @typedef {import("./tile.js").Tile} Tile */
/** @typedef {import("./tile.js").TileContent} TileContent */
/** @typedef {ReturnType<typeof createGrid>} Grid */

/**
 * @typedef {object} GridItems What the grid lays out.
 * @property {number} length
 * @property {(item: number) => string} keyAt
 * @property {(item: number) => TileContent} contentAt Without `active`, `place`, `of` and `generation`, which the grid fills in.
 * @property {Float32Array} ratios
 * @property {import("./types.js").Heading[]} headings
 */

/** Height of a line in pixels, in a large window and on a phone. */
const TARGETS = { S: [132, 96], M: [212, 150], L: [336, 260] };
/** Columns of a phone: a line has no more pictures. */
const COLUMNS = { S: 3, M: 2, L: 1 };
const GAP = 4;
const HEADING = 48;
/** Pixels per millisecond from which pictures are not fetched: they would be gone before they came. */
const TOO_FAST = 6;

/**
 * @param {HTMLElement} scroller
 * @param {{onOpen: (item: number) => void, onSelect: (item: number, how: "only" | "toggle" | "range") => void, onClear: () => void, isSelecting: () => boolean}} tell
 */
export function createGrid(scroller, tell) {
  const list = h("div", { class: "grid", role: "listbox", "aria-multiselectable": "true", "aria-label": "Photographs", tabindex: "0" });
  scroller.append(list);
  /** @type {GridItems} */
  let items = { length: 0, keyAt: () => "", contentAt: () => { throw new Error("no items"); }, ratios: new Float32Array(0), headings: [] };
  let layout = justify([], { width: 1, target: 1, gap: 0, headingHeight: 0, headings: [] });
  /** @type {"S" | "M" | "L"} */
  let size = "M";
  let active = 0;
  let activeKey = "";
  /** Changes with anything that tiles show but the place of the window: a tile of this generation is right. */
  let generation = 0;
  /** @type {Map<string, Tile>} */
  let tiles = new Map();
  /** @type {Tile[]} */
  const spare = [];
  /** @type {Map<import("./types.js").Heading, HTMLElement>} */
  const headings = new Map();

  const offset = () => list.offsetTop;

  /** Paints all that is in view anew. */
  function repaint() {
    generation += 1;
    render(true);
  }

  function relayout() {
    const phone = scroller.clientWidth < 600;
    const target = TARGETS[size][phone ? 1 : 0];
    // Wide screens get somewhat larger pictures: people sit further away from them.
    const scale = phone ? 1 : Math.min(1.5, Math.max(1, scroller.clientWidth / 1900));
    const width = list.clientWidth;
    if (!width) return;
    layout = justify(items.ratios, { width, target: target * scale, gap: GAP, most: phone ? COLUMNS[size] : Infinity, headingHeight: HEADING, headings: items.headings });
    list.style.height = `${layout.total}px`;
  }

  /** @param {boolean} load Whether pictures may be fetched. */
  function render(load) {
    const margin = scroller.clientHeight * 0.6;
    const top = scroller.scrollTop - offset();
    const first = lineAt(layout, top - margin);
    /** @type {Map<string, Tile>} */
    const next = new Map();
    /** @type {number[]} */
    const missing = [];
    const end = top + scroller.clientHeight + margin;
    let line = first;
    for (; line < layout.y.length && layout.y[line] < end; line++) {
      for (let item = layout.start[line]; item < layout.start[line + 1]; item++) {
        const key = items.keyAt(item);
        const tile = tiles.get(key);
        if (tile) {
          tiles.delete(key);
          next.set(key, tile);
          showItem(tile, item, load);
        } else missing.push(item);
      }
    }
    spare.push(...tiles.values());
    for (const item of missing) {
      const tile = spare.pop() ?? addTile();
      next.set(items.keyAt(item), tile);
      showItem(tile, item, load);
    }
    for (const tile of spare) if (!tile.element.hidden) tile.hide();
    tiles = next;
    renderHeadings(top - margin, end);
    const visible = tiles.has(activeKey) && items.length > 0;
    if (visible) list.setAttribute("aria-activedescendant", `tile-${active}`);
    else list.removeAttribute("aria-activedescendant");
  }

  function addTile() {
    const tile = createTile();
    list.append(tile.element);
    return tile;
  }

  /** @param {Tile} tile @param {number} item @param {boolean} load */
  function showItem(tile, item, load) {
    if (tile.isRight(generation, load)) return;
    const line = layout.line[item];
    tile.show({ ...items.contentAt(item), active: item === active, place: item, of: items.length, generation }, load);
    tile.place(layout.x[item], layout.y[line], layout.width[item], layout.height[line]);
  }

  /** @param {number} from @param {number} to */
  function renderHeadings(from, to) {
    const shown = new Set();
    for (const { y, heading } of layout.headings) {
      if (y < from - HEADING || y > to) continue;
      shown.add(heading);
      let element = headings.get(heading);
      if (!element) {
        element = h("div", { class: "grid-heading", "aria-hidden": "true" }, h("span", { text: heading.text }), h("span", { class: "count", text: formatCount(heading.n) }));
        headings.set(heading, element);
        list.append(element);
      }
      element.style.transform = `translateY(${y}px)`;
    }
    for (const [heading, element] of headings) {
      if (shown.has(heading)) continue;
      element.remove();
      headings.delete(heading);
    }
  }

  let lastTop = 0;
  let lastTime = 0;
  let frame = 0;
  let rest = 0;
  scroller.addEventListener("scroll", () => {
    if (frame) return;
    frame = requestAnimationFrame((now) => {
      frame = 0;
      const speed = Math.abs(scroller.scrollTop - lastTop) / Math.max(1, now - lastTime);
      lastTop = scroller.scrollTop;
      lastTime = now;
      render(speed < TOO_FAST);
      clearTimeout(rest);
      rest = window.setTimeout(() => render(true), 80);
    });
  }, { passive: true });

  new ResizeObserver(() => keepPlace(relayout)).observe(scroller);

  /** Does something to the layout; what was at the top of the window stays there. @param {() => void} change */
  function keepPlace(change) {
    const top = scroller.scrollTop;
    const line = lineAt(layout, top - offset());
    const visible = tiles.has(activeKey) && isInView(active);
    const item = visible ? active : layout.start[line];
    const key = item < items.length && item >= 0 ? items.keyAt(item) : "";
    const before = key ? layout.y[layout.line[item]] - top : 0;
    change();
    const now = key ? find(key, item) : -1;
    if (top > 4 && now >= 0) scroller.scrollTop = layout.y[layout.line[now]] - before;
    repaint();
  }

  /** @param {string} key @param {number} guess */
  function find(key, guess) {
    if (guess < items.length && items.keyAt(guess) === key) return guess;
    for (let item = 0; item < items.length; item++) if (items.keyAt(item) === key) return item;
    return -1;
  }

  /** @param {number} item */
  function isInView(item) {
    const y = layout.y[layout.line[item]] + offset();
    return y + layout.height[layout.line[item]] > scroller.scrollTop && y < scroller.scrollTop + scroller.clientHeight;
  }

  /** @param {number} item */
  function scrollTo(item) {
    if (item < 0 || item >= items.length) return;
    const line = layout.line[item];
    const top = layout.y[line] + offset();
    const bottom = top + layout.height[line];
    const roomAbove = line > 0 && layout.headings.some(({ y }) => y === layout.y[line] - HEADING) ? HEADING : GAP;
    if (line === 0) scroller.scrollTop = 0;
    else if (top - roomAbove < scroller.scrollTop) scroller.scrollTop = top - roomAbove;
    else if (bottom + barHeight() > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = bottom + barHeight() - scroller.clientHeight;
  }

  /** The bars that lie over the grid's end. */
  const barHeight = () => parseFloat(getComputedStyle(scroller).scrollPaddingBottom) || GAP;

  /** @param {number} item */
  function activate(item) {
    if (!items.length) return;
    active = Math.max(0, Math.min(items.length - 1, item));
    activeKey = items.keyAt(active);
    scrollTo(active);
    repaint();
  }

  /** @param {Event} event */
  function itemOf(event) {
    const element = event.target instanceof Element ? event.target.closest(".tile") : null;
    return element ? Number(element.id.slice("tile-".length)) : -1;
  }

  /** @param {number} item @param {"only" | "toggle" | "range"} how */
  function select(item, how) {
    active = item;
    activeKey = items.keyAt(item);
    tell.onSelect(item, how);
    repaint();
  }

  let held = 0;
  let holdItem = -1;
  list.addEventListener("pointerdown", (event) => {
    clearTimeout(held);
    holdItem = -1;
    const item = itemOf(event);
    if (event.pointerType !== "touch" || item < 0) return;
    held = window.setTimeout(() => {
      holdItem = item;
      navigator.vibrate?.(10);
      select(item, "toggle");
    }, 450);
  });
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) list.addEventListener(end, () => clearTimeout(held));
  list.addEventListener("contextmenu", (event) => {
    if (/** @type {PointerEvent} */ (event).pointerType === "touch") event.preventDefault();
  });
  list.addEventListener("click", (event) => {
    const item = itemOf(event);
    if (item < 0) {
      tell.onClear();
      return;
    }
    if (item === holdItem) {
      holdItem = -1;
      return;
    }
    const onTick = event.target instanceof Element && event.target.closest(".tick") !== null;
    const touch = /** @type {PointerEvent} */ (event).pointerType === "touch";
    if (event.shiftKey) select(item, "range");
    else if (onTick || event.ctrlKey || event.metaKey || (touch && tell.isSelecting())) select(item, "toggle");
    else if (touch) {
      activate(item);
      tell.onOpen(item);
    } else select(item, "only");
  });
  list.addEventListener("dblclick", (event) => {
    const item = itemOf(event);
    if (item >= 0 && !event.ctrlKey && !event.shiftKey && !event.metaKey) tell.onOpen(item);
  });

  /** How the arrow keys and their like move. @type {Record<string, () => number>} */
  const moves = {
    ArrowLeft: () => active - 1,
    ArrowRight: () => active + 1,
    ArrowUp: () => itemBeside(layout, active, -1),
    ArrowDown: () => itemBeside(layout, active, 1),
    Home: () => 0,
    End: () => items.length - 1,
    PageUp: () => page(-1),
    PageDown: () => page(1),
  };
  /** @param {number} step */
  function page(step) {
    let item = active;
    const start = layout.y[layout.line[active]];
    while (Math.abs(layout.y[layout.line[item]] - start) < scroller.clientHeight * 0.8) {
      const next = itemBeside(layout, item, step);
      if (next === item) break;
      item = next;
    }
    return item;
  }

  return {
    element: list,
    /** @param {GridItems} next @param {boolean} reset Whether it begins at the top, as after another order. */
    show(next, reset) {
      const before = active;
      const swap = () => {
        items = next;
        active = reset ? 0 : Math.max(0, find(activeKey, before));
        activeKey = items.length ? items.keyAt(active) : "";
        relayout();
      };
      if (reset) {
        swap();
        scroller.scrollTop = 0;
        repaint();
      } else keepPlace(swap);
    },
    /** Selection or scores changed, places did not. */
    repaint,
    /** @param {"S" | "M" | "L"} next */
    setSize(next) {
      if (next === size) return;
      keepPlace(() => {
        size = next;
        relayout();
      });
    },
    active: () => active,
    activate,
    /** @param {string} key */
    activateKey(key) {
      const item = find(key, active);
      if (item >= 0) activate(item);
    },
    focus: () => list.focus({ preventScroll: true }),
    /** @param {string} name A key of the keyboard. @returns {number} Where it leads, -1 if it does not move. */
    target: (name) => (name in moves && items.length ? Math.max(0, Math.min(items.length - 1, moves[name]())) : -1),
  };
}
