// The server's own news: progress of an indexer, a changed library, and whether there is a server at all.
import { ask } from "./parts.js";

const SOON = 1000; // milliseconds between tries to reach a server that went away
const LATE = 15000;

/** Calls tell.library(about), tell.progress(progress or null), tell.gone() and tell.back(). Returns a function for
 * those that met silence. One connection, and none while the page is hidden: browsers open six to a server. */
export function follow(tell) {
  let source = null;
  let timer = 0;
  let wait = SOON;
  let gone = false;

  function listen() {
    if (source || document.hidden) return;
    source = new EventSource("/api/progress");
    source.addEventListener("open", reached);
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
    wait = SOON;
    gone = false;
    tell.back();
  }

  function silent() {
    stop();
    clearTimeout(timer);
    timer = setTimeout(async () => {
      try {
        tell.library(await ask("/api/library"));
        reached();
        timer = setTimeout(listen, SOON);
      } catch (trouble) {
        if (trouble.away && !gone) tell.gone();
        gone ||= trouble.away;
        wait = Math.min(2 * wait, LATE);
        silent();
      }
    }, gone ? wait : 0);
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) stop();
    else if (gone) silent();
    else listen();
  });
  listen();
  return silent;
}
