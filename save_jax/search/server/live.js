// The server's own news: progress of an indexer, a changed library, and whether there is a server at all.
import { ask } from "./parts.js";

const SOON = 1000; // milliseconds from the first failure to the next try; it doubles from try to try
const LATE = 15000;

/** Calls tell.library(about), tell.progress(progress or null), tell.gone() and tell.back(). Returns a function for
 * those that met silence. One connection, and none while the page is hidden: browsers open six to a server. */
export function follow(tell) {
  let source = null;
  let timer = 0;
  let wait = 0; // milliseconds before the next try; 0 until something failed
  let gone = false;

  function listen() {
    if (source || document.hidden) return;
    source = new EventSource("/api/progress");
    source.addEventListener("open", () => {
      wait = 0; // only here: a server may answer questions and still refuse its news
      reached();
    });
    source.addEventListener("library", (event) => tell.library(JSON.parse(event.data)));
    source.addEventListener("progress", (event) => tell.progress(JSON.parse(event.data)));
    source.addEventListener("error", silent);
  }

  function stop() {
    source?.close();
    source = null;
  }

  function reached() {
    clearTimeout(timer);
    gone = false;
    tell.back();
  }

  function silent() {
    stop();
    clearTimeout(timer);
    timer = setTimeout(async () => {
      wait = Math.min(2 * wait || SOON, LATE);
      try {
        tell.library(await ask("/api/library"));
        reached();
        timer = setTimeout(listen, wait);
      } catch (trouble) {
        if (trouble.away && !gone) tell.gone();
        gone ||= trouble.away;
        silent();
      }
    }, wait);
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) stop();
    else if (gone) silent();
    else listen();
  });
  listen();
  return silent;
}
