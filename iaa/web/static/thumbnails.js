/**
 * Thumbnails as bitmaps that are given back by hand. The pictures of <img> elements stay decoded after they have
 * left the page, up to half a gigabyte of them; of these only what is shown is kept.
 */

/**
 * @param {string} address @param {AbortSignal} signal Of who does not want it any more.
 * @returns {Promise<ImageBitmap>} To be closed, or handed to a canvas.
 */
export async function loadThumbnail(address, signal) {
  const answer = await fetch(address, { signal, credentials: "same-origin" });
  if (!answer.ok) throw new Error(`no thumbnail: ${answer.status}`);
  return createImageBitmap(await answer.blob());
}

/** A canvas that shows one bitmap at a time. */
export function createBitmapView() {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("bitmaprenderer");
  canvas.hidden = true;
  return {
    element: canvas,
    /** @param {ImageBitmap} bitmap It belongs to the canvas from now on. */
    show(bitmap) {
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
      context?.transferFromImageBitmap(bitmap);
      canvas.hidden = false;
    },
    clear() {
      if (canvas.hidden) return;
      canvas.hidden = true;
      context?.transferFromImageBitmap(null);
    },
  };
}
