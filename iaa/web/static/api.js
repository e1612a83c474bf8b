/** The border to the program behind the page: JSON over HTTP, one function per call. */

/** An answer that says no: `message` says what, where and what to do. */
export class ApiError extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** No answer at all. */
export class ServerGone extends Error {}

/** @typedef {ReturnType<typeof createApi>} Api */

/** @param {(gone: boolean) => void} onContact Told after each call whether there was an answer. */
export function createApi(onContact) {
  /** @param {string} path @param {RequestInit} [init] */
  async function call(path, init) {
    let answer;
    try {
      answer = await fetch(path, { credentials: "same-origin", ...init });
    } catch (error) {
      if (init?.signal?.aborted) throw error;
      onContact(true);
      throw new ServerGone("The program behind this page does not answer.");
    }
    onContact(false);
    if (!answer.ok) throw new ApiError(answer.status, await reasonOf(answer));
    return answer;
  }

  /** @param {string} path @param {AbortSignal} [signal] */
  const get = async (path, signal) => (await call(path, { signal })).json();

  /** @param {string} path @param {unknown} body @param {RequestInit} [more] */
  const post = (path, body, more) =>
    call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), ...more });

  /**
   * The answer once it is made: the program says 202 while it still works on it.
   * @param {string} path @param {(working: string) => void} [onWorking]
   */
  async function whenMade(path, onWorking) {
    for (;;) {
      const answer = await call(path);
      const value = await answer.json();
      if (answer.status !== 202) return value;
      onWorking?.(value.message ?? "");
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }

  return {
    /** @returns {Promise<import("./types.js").Library>} */
    library: () => get("/api/library"),
    /** @param {string} since @returns {Promise<import("./types.js").Progress>} */
    progress: (since) => get(`/api/state?since=${encodeURIComponent(since)}`),
    /** @returns {Promise<import("./types.js").Photographs>} */
    photographs: () => get("/api/photographs"),
    /** @param {string} query @param {AbortSignal} [signal] */
    order: (query, signal) => get(`/api/order?${query}`, signal),
    /** @param {(working: string) => void} [onWorking] */
    groups: (onWorking) => whenMade("/api/groups", onWorking),
    /** @param {(working: string) => void} [onWorking] */
    map: (onWorking) => whenMade("/api/map", onWorking),
    /** @param {string} key @returns {Promise<import("./types.js").Facts>} */
    facts: (key) => get(`/api/photographs/${encodeURIComponent(key)}`),
    /** @param {Blob} picture @returns {Promise<{token: string, width: number, height: number}>} */
    sendPicture: async (picture) =>
      (await call("/api/pictures", { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: picture })).json(),
    /** @param {string[]} keys @param {string} name @returns {Promise<{folder: string, n: number}>} */
    copy: async (keys, name) => (await post("/api/copy", { keys, name })).json(),
    /** @param {string[]} keys @param {string} order */
    csv: async (keys, order) => (await post("/api/csv", { keys, order })).blob(),
    /** @param {string[]} keys */
    zip: async (keys) => (await post("/api/zip", { keys })).blob(),
    /** @returns {Promise<{listing: string, last: number, n_stars: number, n_flags: number, n_pairs: number, stars: number[], flag: number[]}>} */
    ratings: () => get("/api/ratings"),
    /** A page that is left sends what is small (browsers keep 64 KB) to its end. @param {{keys: string[], kind: string, value: number, other?: string}} said */
    rate: async (said) => (await post("/api/ratings", said, { keepalive: said.keys.length < 1000 })).json(),
    /** @param {number | null} act null: what was said last. @returns {Promise<{undone: number, keys: string[], last: number, n_stars: number, n_flags: number, n_pairs: number}>} */
    undo: async (act) => (await post("/api/undo", { act }, { keepalive: true })).json(),
    /** @param {number} n @param {number} turn Another one: another pair first. @returns {Promise<{listing: string, keys: string[], pairs: string[][]}>} */
    next: (n, turn) => get(`/api/next?n=${n}&turn=${turn}`),
    /** @returns {Promise<import("./types.js").Taste>} */
    taste: () => get("/api/taste"),
    /** @param {boolean} isDone Else it is only said. @returns {Promise<{act: number, n_found: number, n_new: number, n_conflicts: number, problems: string[]}>} */
    readSidecars: async (isDone) => (await post("/api/read_sidecars", { do: isDone })).json(),
    /** @param {string | null} head null: one's own stars. @param {boolean} isDone @returns {Promise<{n_new: number, n_changed: number, n_same: number, n_kept: number, problems: string[]}>} */
    writeSidecars: async (head, isDone) => (await post("/api/write_sidecars", { head, do: isDone })).json(),
    /** @param {string} key */
    reveal: (key) => post("/api/reveal", { key }),
    stop: () => post("/api/stop", {}),
    start: () => post("/api/start", {}),
  };
}

/** @param {Response} answer */
async function reasonOf(answer) {
  if (answer.status === 401) return "This page has lost its permission: open the address that the program printed when it started.";
  try {
    const { detail } = await answer.json();
    if (typeof detail === "string") return detail;
  } catch {
    // Not JSON: the status has to do.
  }
  return `The program behind this page answered ${answer.status} ${answer.statusText}`.trim() + ".";
}

/** Address of a thumbnail. @param {string} key @param {string} version */
export function thumbnailAddress(key, version) {
  return `/api/photographs/${encodeURIComponent(key)}/thumbnail${version ? `?v=${encodeURIComponent(version)}` : ""}`;
}

/** Address of the picture. @param {string} key @param {string} version @param {0 | 2048} edge 0: full size. */
export function pictureAddress(key, version, edge) {
  return `/api/photographs/${encodeURIComponent(key)}/picture?edge=${edge}${version ? `&v=${encodeURIComponent(version)}` : ""}`;
}

/** @param {string} token */
export const sentPictureAddress = (token) => `/api/pictures/${encodeURIComponent(token)}`;
