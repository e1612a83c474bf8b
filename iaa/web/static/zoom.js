/**
 * A picture in a frame: fits it, or lies under it enlarged and is moved. Where it lies is a value of its own
 * (`Sight`), so that several frames can share one.
 */

/**
 * @typedef {object} Sight
 * @property {number} zoom 1: the picture fits its frame.
 * @property {number} x The point of the picture in the middle of the frame, 0 to 1.
 * @property {number} y
 */

/** @type {Sight} */
export const FITTED = { zoom: 1, x: 0.5, y: 0.5 };
const LARGEST = 8;

/** Pictures much smaller than the window are enlarged no more than this. */
const ENLARGED = 2.5;

/** Scale at which a picture fits its frame. @param {number} width @param {number} height @param {number} frameWidth @param {number} frameHeight */
export function fitScale(width, height, frameWidth, frameHeight) {
  return Math.min(frameWidth / width, frameHeight / height, ENLARGED);
}

/** The zoom at which one pixel of the picture is one of the screen. @param {number} fit @param {number} density Pixels of the screen per CSS pixel. */
export const zoomOfPixels = (fit, density) => 1 / (fit * density);

/**
 * The sight after a change of zoom that leaves the point under the pointer where it is.
 * @param {Sight} sight @param {number} zoom @param {{dx: number, dy: number}} pointer From the frame's middle, in CSS pixels.
 * @param {number} width Of the fitted picture. @param {number} height
 * @returns {Sight}
 */
export function zoomAt(sight, zoom, { dx, dy }, width, height) {
  const x = sight.x + dx / (width * sight.zoom) - dx / (width * zoom);
  const y = sight.y + dy / (height * sight.zoom) - dy / (height * zoom);
  return { zoom, x, y };
}

/**
 * No empty space where there could be picture.
 * @param {Sight} sight @param {number} width Of the fitted picture. @param {number} height @param {number} frameWidth @param {number} frameHeight
 * @returns {Sight}
 */
export function clampSight({ zoom, x, y }, width, height, frameWidth, frameHeight) {
  const keep = (/** @type {number} */ at, /** @type {number} */ size, /** @type {number} */ frame) => {
    const half = Math.min(0.5, frame / (2 * size * zoom));
    return Math.min(1 - half, Math.max(half, at));
  };
  return { zoom, x: keep(x, width, frameWidth), y: keep(y, height, frameHeight) };
}

/** @typedef {ReturnType<typeof createFrame>} Frame */

/**
 * @param {HTMLElement} stage
 * @param {{onSight: (sight: Sight) => void, onSwipe?: (step: number) => void, onDrag?: (dx: number) => void}} tell
 */
export function createFrame(stage, tell) {
  /** @type {HTMLElement[]} */
  let layers = [];
  let natural = { width: 3, height: 2 };
  let sight = FITTED;

  const fitted = () => {
    const scale = fitScale(natural.width, natural.height, stage.clientWidth, stage.clientHeight);
    return { scale, width: natural.width * scale, height: natural.height * scale };
  };

  function place() {
    const { width, height } = fitted();
    const shown = clampSight(sight, width, height, stage.clientWidth, stage.clientHeight);
    const w = width * shown.zoom;
    const h = height * shown.zoom;
    const left = stage.clientWidth / 2 - shown.x * w;
    const top = stage.clientHeight / 2 - shown.y * h;
    for (const layer of layers) {
      layer.style.width = `${w}px`;
      layer.style.height = `${h}px`;
      layer.style.transform = `translate(${left}px, ${top}px)`;
    }
    stage.classList.toggle("zoomed", shown.zoom > 1.001);
  }

  /** @param {Sight} next */
  function look(next) {
    const { width, height } = fitted();
    const largest = Math.max(LARGEST, largestZoom());
    const zoom = Math.min(largest, Math.max(1, next.zoom));
    sight = clampSight({ ...next, zoom }, width, height, stage.clientWidth, stage.clientHeight);
    place();
    tell.onSight(sight);
  }

  const pixelZoom = () => zoomOfPixels(fitted().scale, devicePixelRatio);
  const largestZoom = () => pixelZoom() * 4;

  /** @param {{clientX: number, clientY: number}} event */
  function fromMiddle(event) {
    const box = stage.getBoundingClientRect();
    return { dx: event.clientX - box.left - box.width / 2, dy: event.clientY - box.top - box.height / 2 };
  }

  /** @param {number} zoom @param {{dx: number, dy: number}} pointer */
  function zoomTo(zoom, pointer) {
    const { width, height } = fitted();
    const bounded = Math.min(Math.max(LARGEST, largestZoom()), Math.max(1, zoom));
    look(zoomAt(sight, bounded, pointer, width, height));
  }

  /** @param {{dx: number, dy: number}} [pointer] */
  function toggle(pointer = { dx: 0, dy: 0 }) {
    if (sight.zoom > 1.001) look(FITTED);
    else zoomTo(pixelZoom() > 1.02 ? pixelZoom() : 2, pointer);
  }

  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : 1;
    zoomTo(sight.zoom * Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)), fromMiddle(event));
  }, { passive: false });
  stage.addEventListener("dblclick", (event) => toggle(fromMiddle(event)));

  /** @type {Map<number, PointerEvent>} */
  const pointers = new Map();
  let swipe = 0;
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || (event.target instanceof Element && event.target.closest("button"))) return;
    pointers.set(event.pointerId, event);
    stage.setPointerCapture(event.pointerId);
    swipe = 0;
  });
  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const others = [...pointers.values()].filter((one) => one.pointerId !== event.pointerId);
    const { width, height } = fitted();
    const dx = event.clientX - before.clientX;
    const dy = event.clientY - before.clientY;
    if (others.length === 1) {
      const other = others[0];
      const was = Math.hypot(before.clientX - other.clientX, before.clientY - other.clientY);
      const is = Math.hypot(event.clientX - other.clientX, event.clientY - other.clientY);
      const middle = { clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 };
      if (was > 0) zoomTo((sight.zoom * is) / was, fromMiddle(middle));
    } else if (sight.zoom > 1.001) {
      look({ ...sight, x: sight.x - dx / (width * sight.zoom), y: sight.y - dy / (height * sight.zoom) });
    } else if (event.pointerType === "touch") {
      swipe += dx;
      tell.onDrag?.(swipe);
    }
    pointers.set(event.pointerId, event);
  });
  for (const end of /** @type {const} */ (["pointerup", "pointercancel"])) {
    stage.addEventListener(end, (event) => {
      if (!pointers.delete(event.pointerId)) return;
      const far = Math.abs(swipe) > 48;
      const step = swipe < 0 ? 1 : -1;
      swipe = 0;
      tell.onDrag?.(0);
      if (far && end === "pointerup") tell.onSwipe?.(step);
    });
  }
  new ResizeObserver(() => {
    place();
    tell.onSight(sight);
  }).observe(stage);

  return {
    /** @param {HTMLElement[]} elements Laid over each other. @param {number} width Of the picture in pixels. @param {number} height */
    hold(elements, width, height) {
      layers = elements;
      natural = { width: width || 3, height: height || 2 };
      place();
    },
    /** Looks where another frame looks; tells nobody. @param {Sight} next */
    follow(next) {
      sight = next;
      place();
    },
    look,
    toggle,
    zoomBy: (/** @type {number} */ factor) => zoomTo(sight.zoom * factor, { dx: 0, dy: 0 }),
    /** Moves by a share of the frame. @param {number} x @param {number} y */
    pan(x, y) {
      const { width, height } = fitted();
      look({ ...sight, x: sight.x + (x * stage.clientWidth) / (width * sight.zoom), y: sight.y + (y * stage.clientHeight) / (height * sight.zoom) });
    },
    sight: () => sight,
    /** Pixels of the screen per pixel of the picture. */
    scale: () => fitted().scale * sight.zoom * devicePixelRatio,
    isZoomed: () => sight.zoom > 1.001,
  };
}
