/** Numbers, times and sizes as people read them. */

const COUNT = new Intl.NumberFormat("en");
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" });
const MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", timeZone: "UTC" });
const MONTH = new Intl.DateTimeFormat("en-GB", { month: "long", year: "numeric", timeZone: "UTC" });
const SHORT_DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });

/** 20,318 @param {number} n */
export const formatCount = (n) => COUNT.format(n);

/** "1 photograph", "20,318 photographs" @param {number} n @param {string} [one] @param {string} [many] */
export const countOf = (n, one = "photograph", many = `${one}s`) => `${COUNT.format(n)} ${n === 1 ? one : many}`;

/** Three digits that mean something: 0.234, 6.12, 71.4, 512. @param {number} score */
export function formatScore(score) {
  if (!Number.isFinite(score)) return "";
  const size = Math.abs(score);
  return score.toFixed(size >= 99.95 ? 0 : size >= 9.995 ? 1 : size >= 0.9995 ? 2 : 3).replace("-", "\u2212");
}

/** "better than 93 %" of the library @param {number} percentile 0 to 100 @param {string} [how] */
export function formatPercentile(percentile, how = "better") {
  return Number.isFinite(percentile) ? `${how} than ${Math.min(99, Math.floor(percentile))} %` : "";
}

/** How many stars are drawn: half a star more is none. @param {number} stars */
export const wholeStars = (stars) => Math.floor(stars + 1e-6);

/** "4 stars" @param {number} n */
export const starsText = (n) => (n === 0 ? "no stars" : `${Number(n.toFixed(1))} ${n === 1 ? "star" : "stars"}`);

/** What a flag is called in filters and in style sheets. @param {number} flag */
export const flagName = (flag) => (flag > 0 ? "pick" : flag < 0 ? "reject" : "");

/** "4 stars", "picked": how a photograph is rated, nothing where it is not. @param {number} stars @param {number} flag */
export const markWords = (stars, flag) => [stars ? starsText(stars) : "", flag > 0 ? "picked" : flag < 0 ? "rejected" : ""].filter(Boolean);

/** @param {number} taken Seconds since 1970, on the camera's own clock. */
export const formatDay = (taken) => SHORT_DAY.format(taken * 1000);
/** @param {number} taken */
export const formatMonth = (taken) => MONTH.format(taken * 1000);
/** @param {number} taken */
export const formatMoment = (taken) => `${DAY.format(taken * 1000)}, ${MINUTE.format(taken * 1000)}`;

/** "23 min left" in words that do not pretend to be exact. @param {number | null} seconds */
export function formatLeft(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return "";
  if (seconds < 10) return "a few seconds left";
  if (seconds < 90) return `${Math.round(seconds / 5) * 5} s left`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min left`;
  return `${(seconds / 3600).toFixed(1)} h left`;
}

/** @param {number} bytes */
export function formatBytes(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  if (bytes < 999500) return `${Math.round(bytes / 1000)} kB`;
  if (bytes < 999.5e6) return `${(bytes / 1e6).toFixed(1)} MB`;
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

/** "1/250 s" or "2.5 s" @param {number} seconds */
export function formatExposure(seconds) {
  return seconds >= 0.3 ? `${Number(seconds.toFixed(1))} s` : `1/${Math.round(1 / seconds)} s`;
}

/** "4000 × 3000, 12 megapixels" @param {number} width @param {number} height */
export function formatPixels(width, height) {
  const mega = (width * height) / 1e6;
  return `${width} × ${height}, ${mega.toFixed(mega < 10 ? 1 : 0)} megapixels`;
}

/** What a group is called. */
export const KINDS = /** @type {const} */ ({
  copies: { one: "exact copies", many: "Exact copies", about: "the same file more than once" },
  near: { one: "nearly alike", many: "Nearly alike", about: "the same picture in other sizes, crops or exposures" },
  burst: { one: "burst", many: "Bursts", about: "one moment, several frames" },
  bracket: { one: "bracket", many: "Brackets", about: "one frame in several exposures" },
  panorama: { one: "panorama", many: "Panoramas", about: "frames that overlap" },
});

/** @typedef {keyof typeof KINDS} Kind */
export const KIND_NAMES = /** @type {Kind[]} */ (Object.keys(KINDS));
