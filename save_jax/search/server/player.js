// The player: a moment's film at its second, why it was found, and the strip over time. A panel beside the list where
// there is room, a dialog over it where there is not.
import { ask, bdi, byId, clock, el, place, plain, said, stretch, trouble } from "./parts.js";
import { largest, why } from "./results.js";
import { makeStrip } from "./strip.js";

const NARROW = matchMedia("(max-width: 899px)");

/** `tell`: closed(), step(±1), similar(hit, second), address(hit). */
export function makePlayer(tell) {
  const [dialog, film, still, screen] = ["player", "film", "still", "screen"].map(byId);
  const strip = makeStrip(byId("strip"), seek);
  let hit = null;
  let begins = 0; // second of the file at which the player's clock reads 0: a preview is a piece of it
  let measured = ""; // the file and question whose strip is shown, or asked for
  let asking = null; // stops that question
  let turn = 0; // of the moment on show, so that late answers are dropped
  let wanted = 0; // second of the file to go to once the film is there
  let tried = false; // whether the file itself failed in this browser

  /** Shows a moment; `asked`: the question's parameters; `cutoff`: null where none applies; `version`: the library's. */
  function open(next, asked, { cutoff = null, version = "", hits = [next], play = true } = {}) {
    const same = hit && hit.id === next.id && hit.start === next.start;
    hit = next;
    if (!same) {
      turn += 1;
      tried = false;
      strip.forget();
      describe();
      if (playable()) load(hit.media, hit.origin ?? 0, hit.start, play);
      else rest();
    }
    appear();
    byId("player-why").replaceChildren(el("h3", {}, "Why: score lost without it"), why(hit, largest(hits)));
    const number = hits.findIndex((other) => other.id === hit.id && other.start === hit.start);
    byId("previous").disabled = number <= 0;
    byId("next").disabled = number < 0 || number + 1 >= hits.length;
    measure(asked, cutoff, version);
  }

  /** Asks for the strip, once for a question and a moment. */
  async function measure(asked, cutoff, version) {
    const question = asked.filter(([name]) => ["q", "like", "mute"].includes(name));
    const [mine, key] = [hit, JSON.stringify([hit.id, hit.start, question, cutoff, version])];
    if (key === measured) return;
    asking?.abort();
    measured = key;
    asking = new AbortController();
    const { signal } = asking;
    try {
      const along = await ask(`/api/files/${mine.id}/along`, question, signal);
      if (!signal.aborted) strip.show({ ...along, duration: along.duration ?? mine.duration }, mine, cutoff);
    } catch (trouble) {
      if (signal.aborted) return;
      measured = "";
      strip.fail(trouble.message);
      if (trouble.again) setTimeout(() => signal.aborted || measure(asked, cutoff, version), 1000 * trouble.again);
    }
  }

  function describe() {
    byId("player-name").replaceChildren(bdi(hit.name));
    byId("player-place").replaceChildren(...place(hit.folder), ` · ${stretch(hit)} of ${clock(hit.duration)}`);
    byId("to-start").textContent = `From ${clock(hit.start)}`;
    byId("to-best").textContent = `Best ${clock(hit.best)}`;
    for (const id of ["to-start", "to-best"]) byId(id).disabled = !playable();
    const text = said(hit.quoted || hit.words);
    byId("player-words").hidden = !text;
    byId("player-words").replaceChildren("“", el("bdi", {}, text), "”");
    byId("copied").textContent = "";
    byId("link").hidden = true;
    complain(!hit.there ? "This file is offline: its folder is not there now. It can be found, and played once it is back." : playable() ? "" : "This browser cannot play the file, and no preview of it can be made.");
  }

  const playable = () => hit.there && hit.plays !== "no" && /^\/(media|preview)\//.test(hit.media ?? "");

  function complain(text) {
    byId("film-trouble").textContent = text;
    byId("film-trouble").hidden = !text;
  }

  /** A picture in place of the film. */
  function rest() {
    unload();
    film.hidden = true;
    still.hidden = false;
    still.src = hit.thumbnail;
    still.alt = `Picture at ${clock(hit.best)}`;
    strip.at(hit.best);
  }

  /** `origin`: second of the file at which the source's clock reads 0. */
  function load(source, origin, second, play) {
    unload();
    [film.hidden, still.hidden] = [false, true];
    [begins, wanted] = [origin, second];
    complain("");
    film.poster = hit.thumbnail;
    film.setAttribute("aria-label", `Film ${plain(hit.name)}`);
    if (hit.captions) {
      const src = `${hit.captions.split("?")[0]}${origin ? `?start=${origin}` : ""}`;
      film.append(el("track", { kind: "captions", label: "What is said", src, default: true }));
    }
    const mine = turn;
    film.addEventListener("loadedmetadata", () => {
      if (mine !== turn || film.getAttribute("src") !== source) return;
      const other = wanted !== second && source.startsWith("/preview/") && !within(wanted);
      if (other) return loadPiece(wanted); // asked for while this one was made
      jump();
      if (play) film.play().catch(() => {}); // a browser may want a click first: its controls are there
    }, { once: true });
    film.src = source;
    strip.at(second);
  }

  function unload() {
    film.pause();
    film.replaceChildren();
    film.removeAttribute("src");
    film.removeAttribute("poster");
    film.load(); // lets go of the connection
  }

  function loadPiece(second) {
    const start = Math.max(0, Math.floor(10 * Math.min(second, hit.duration - 1)) / 10); // at the very end there is no film
    load(`/preview/${hit.id}?start=${start}`, start, second, true);
  }

  function seek(second) {
    if (!hit || !playable()) return;
    const source = film.getAttribute("src");
    wanted = second;
    const comes = source?.startsWith("/preview/") && !film.readyState; // it is being made: it goes there once it is here
    if (comes) return strip.at(second);
    if (source && (!source.startsWith("/preview/") || within(second))) jump();
    else if (!source && hit.plays === "direct" && !tried) load(hit.media, hit.origin ?? 0, second, true); // what was there failed
    else loadPiece(second);
    strip.at(second);
  }

  const jump = () => (film.currentTime = Math.max(0, wanted - begins));

  /** Whether the piece on show holds a second; the last one may end before its file is said to. */
  function within(second) {
    const ends = begins + (film.duration || 0);
    return second >= begins && (second < ends || ends > hit.duration - 0.5);
  }

  async function failed() {
    if (!hit || !film.getAttribute("src")) return;
    const mine = turn;
    const source = film.getAttribute("src");
    const answer = await fetch(source, { headers: { Range: "bytes=0-0" } }).catch(() => null);
    if (mine !== turn || !hit || film.getAttribute("src") !== source) return;
    if (answer?.ok && source.startsWith("/media/") && !tried) {
      tried = true;
      loadPiece(wanted);
      return;
    }
    const { detail } = answer && !answer.ok ? (await answer.json().catch(() => null)) ?? {} : {};
    const text = !answer ? "The server does not answer." : answer.ok ? "This browser cannot play the file." : trouble(answer, detail).message;
    rest();
    complain(text.replace(/ Asking again.*/, " Try again in a moment."));
  }

  function appear() {
    const modal = dialog.matches(":modal");
    if (dialog.open && modal === NARROW.matches) return;
    const focused = document.activeElement;
    if (dialog.open) dialog.close();
    document.body.classList.add("open");
    if (NARROW.matches) {
      dialog.showModal();
    } else {
      dialog.show();
      focused?.focus?.({ preventScroll: true }); // the list keeps the keys
    }
  }

  function close() {
    if (!hit) return;
    turn += 1;
    hit = null;
    asking?.abort();
    measured = "";
    strip.forget();
    unload();
    dialog.close();
    document.body.classList.remove("open");
  }

  async function copy() {
    const address = tell.address(hit);
    try {
      await navigator.clipboard.writeText(address);
      byId("copied").textContent = "The link is copied.";
    } catch { // not over plain http from another machine
      byId("link").hidden = false;
      byId("link").value = address;
      byId("link").select();
      byId("copied").textContent = "Copy this link:";
    }
  }

  film.addEventListener("timeupdate", () => hit && film.readyState && strip.at(begins + film.currentTime));
  film.addEventListener("error", failed);
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    tell.closed();
  });
  NARROW.addEventListener("change", () => hit && appear());
  byId("player-close").addEventListener("click", tell.closed);
  byId("to-start").addEventListener("click", () => seek(hit.start));
  byId("to-best").addEventListener("click", () => seek(hit.best));
  byId("previous").addEventListener("click", () => tell.step(-1));
  byId("next").addEventListener("click", () => tell.step(1));
  byId("similar").addEventListener("click", similar);
  byId("copy").addEventListener("click", copy);

  function similar() {
    tell.similar(hit, Number(((hit.start + hit.end) / 2).toFixed(2)));
  }

  const onFilm = () => (film.hidden ? byId("player-close") : film).focus();
  return { open, close, seek, copy, similar, toFilm: onFilm, toStrip: strip.focus, screen, shown: () => hit };
}
