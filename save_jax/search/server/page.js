// The page of a library: asks the server, shows what it says, keeps the question in the address.
import { NO_FILTERS, TOP, asked, read, write } from "./address.js";
import { makeControls } from "./controls.js";
import { listenToKeys } from "./keys.js";
import { follow } from "./live.js";
import { Trouble, ask, bdi, byId, clock, el, many, plain } from "./parts.js";
import { makePlayer } from "./player.js";
import { SENSES, keyOf, placeIn, show, showFallen, welcome } from "./results.js";

const list = byId("hits");
let state = read(location.search);
let about = null; // what the server says of the library
let answer = null; // to the question on show
let before = null; // the ranking of the same question with all senses
let shownVersion; // of the library, when it was asked
let abort = null;
let retry = 0;
let owed = false; // a search that met silence
const names = new Map(); // of files, by id, as far as seen

const controls = makeControls({
  typed: (q) => q !== state.q && go({ q, ...(q ? { like: "" } : {}), open: "", top: TOP }, { typed: true }),
  asked: (q) => (q || !state.like) && go({ q, like: "", open: "", top: TOP }),
  filtered: (changes) => go({ ...changes, top: TOP }),
  muted: (mute) => go({ mute }, { moving: true }),
});

const player = makePlayer({
  closed: () => openMoment(null),
  step,
  similar: (hit, second) => go({ q: "", like: `${hit.id}@${second}`, open: "", top: TOP }, { top: true }),
  address: (hit) => new URL(write({ ...state, open: keyOf(hit) }), location.href).href,
});

// ------------------------------------------------------------------ the address

/** Changes what is asked, and asks it. Keys of one burst of typing are one step back. */
function go(changes, { typed = false, moving = false, top = false } = {}) {
  const was = write(state);
  state = { ...state, odd: "", ...changes };
  const same = write(state) === was || (typed && history.state?.typed);
  history[same ? "replaceState" : "pushState"]({ typed }, "", write(state));
  if (top) scrollTo({ top: 0 });
  return run({ moving });
}

addEventListener("popstate", () => {
  const question = String(asked(state));
  state = read(location.search);
  if (question === String(asked(state)) && answer) settle();
  else run();
});

// ------------------------------------------------------------------ a search

async function run({ moving = false } = {}) {
  clearTimeout(retry);
  abort?.abort();
  abort = new AbortController();
  const { signal } = abort;
  controls.fill(state);
  title();
  if (!state.q && !state.like) return rest();
  byId("welcome").hidden = true;
  const slow = setTimeout(() => document.body.classList.add("busy"), 150);
  list.setAttribute("aria-busy", "true");
  try {
    const all = state.mute.size ? ask("/api/search", asked(state, []), signal).catch(() => null) : null;
    const found = await ask("/api/search", asked(state), signal);
    const wide = (await all)?.hits ?? null;
    if (signal.aborted) return;
    [answer, before, owed, shownVersion] = [found, wide, false, about?.version];
    complain(null);
    tell(moving);
  } catch (trouble) {
    if (trouble.name === "AbortError" || signal.aborted) return;
    if (!(trouble instanceof Trouble)) throw trouble;
    complain(trouble);
  } finally {
    clearTimeout(slow);
    if (!signal.aborted) {
      document.body.classList.remove("busy");
      list.removeAttribute("aria-busy");
    }
  }
}

/** Without a question: what there is. */
function rest() {
  answer = before = null;
  list.replaceChildren();
  for (const id of ["nothing", "more", "fallen", "like", "offline", "changed"]) byId(id).hidden = true;
  byId("count").textContent = "";
  complain(null);
  document.body.classList.remove("busy");
  player.close();
  byId("welcome").hidden = !about;
  if (about) {
    welcome(about, (changes) => go({ ...changes, open: "" }));
    offline(about.offline);
  }
}

function tell(moving) {
  const { hits } = answer;
  for (const hit of hits) names.set(hit.id, hit.name);
  show(list, answer, { before, moving, judged: judged() && !answer.nothing_relevant });
  byId("more").hidden = hits.length < state.top || state.top >= 100;
  byId("changed").hidden = true;
  likeness();
  nothing();
  offline(answer.offline);
  const muted = Object.keys(SENSES).filter((sense) => state.mute.has(sense)).map((sense) => SENSES[sense]);
  const took = answer.took_ms < 1000 ? `${Math.round(answer.took_ms)} ms` : `${(answer.took_ms / 1000).toFixed(1)} s`;
  showFallen(byId("fallen"), before, hits, muted.join(" and "));
  const found = !hits.length ? "Nothing found" : many(hits.length, answer.nothing_relevant ? "nearest moment" : "moment");
  byId("count").replaceChildren(
    el("span", { class: "unseen" }, hits.length && answer.nothing_relevant ? "Nothing relevant. " : ""),
    `${found}${muted.length ? ` without ${muted.join(" and ")}` : ""} · ${took}`,
  );
  settle();
}

/** Whether the cut-off, which is measured with sentences, says anything here. */
const judged = () => Boolean(state.q) && !/["“”].*["“”]/.test(state.q);

function nothing() {
  const box = byId("nothing");
  box.hidden = !answer.nothing_relevant;
  if (box.hidden) return;
  const { hits, cutoff } = answer;
  const best = Math.max(...hits.map(({ score }) => score));
  const quoted = state.q && !judged();
  let text = "No moment is within these filters.";
  if (quoted && !hits.length) text = "Nobody says these words in quotation marks. Without the marks, moments about them are found.";
  else if (hits.length && cutoff !== null) text = `The best score, ${best.toFixed(1)}, is below the cut-off of ${cutoff.toFixed(1)}: nine of ten answers to what is not in this library stay below it. The nearest are:`;
  else if (about && !about.files) text = "This index holds no video yet.";
  box.replaceChildren(el("h2", {}, "Nothing relevant"), el("p", {}, text));
}

function likeness() {
  const box = byId("like");
  box.hidden = !state.like;
  if (box.hidden) return;
  const [id, second] = state.like.split("@");
  const end = el("button", { class: "quiet", "aria-label": "No longer: similar moments" }, el("span", { "aria-hidden": "true" }, "✕"));
  end.addEventListener("click", () => go({ like: "", open: "" }));
  box.replaceChildren(
    el("img", { src: `/thumbnail/${encodeURIComponent(id)}?at=${Number(second) || 0}`, alt: "" }),
    el("span", {}, "Similar to ", names.has(id) ? bdi(names.get(id)) : "a moment", second ? ` at ${clock(Number(second))}` : ""), end,
  );
}

function offline(roots) {
  byId("offline").hidden = !roots?.length;
  byId("offline").replaceChildren("Offline now: ", ...(roots ?? []).flatMap((root, number) => [number ? ", " : "", bdi(root)]), ". Its files are found, and cannot be played until it is back.");
}

function say(text) {
  byId("trouble").hidden = !text;
  byId("trouble").replaceChildren(el("bdi", {}, text));
}

/** Shows why there is no answer; null where there is one. What can be asked again keeps the list. */
function complain(trouble) {
  const odd = state.odd ? `“${plain(state.odd)}” in the address is no date: files of any age are searched.` : "";
  say(trouble && !trouble.away ? trouble.message : odd);
  if (!trouble) return;
  if (!trouble.again && !trouble.away) {
    answer = before = null;
    list.replaceChildren();
    for (const id of ["nothing", "more", "fallen"]) byId(id).hidden = true;
    byId("count").textContent = "";
  }
  owed = trouble.away;
  if (trouble.again) retry = setTimeout(run, 1000 * trouble.again);
  if (trouble.away) silence();
}

function title() {
  const asking = state.q ? `${plain(state.q)} – ` : state.like ? "similar – " : "";
  document.title = `${asking}${about?.name ? plain(about.name) : "Search"}`;
}

// ------------------------------------------------------------------ a moment

/** Opens a moment, or none, and keeps it in the address. */
function openMoment(hit, { push = true } = {}) {
  const was = state.open;
  state = { ...state, open: hit ? keyOf(hit) : "" };
  if (was !== state.open) history[push && !was ? "pushState" : "replaceState"]({}, "", write(state));
  settle({ play: true });
  if (!hit && was) focusCard(was);
}

/** Makes the player show what the address says. */
async function settle({ play = false } = {}) {
  for (const card of list.children) {
    const current = state.open !== "" && card.dataset.key === state.open;
    card.classList.toggle("current", current);
    card.querySelector(".open").setAttribute("aria-current", String(current));
  }
  if (!state.open) return player.close();
  const { hits } = answer;
  let hit = hits.find((other) => keyOf(other) === state.open);
  const shown = player.shown();
  if (!hit && shown && keyOf(shown) === state.open) hit = hits[placeIn(hits, shown)] ? { ...shown, why: hits[placeIn(hits, shown)].why } : shown;
  hit ??= await lookUp(state.open);
  if (hit && answer && state.open === keyOf(hit)) player.open(hit, asked(state), { cutoff: judged() ? answer.cutoff : null, version: shownVersion, hits, play: play || !shown });
}

/** A moment of a shared address that the answer does not hold: it is most like itself. */
async function lookUp(key) {
  const [id, start] = key.split("@");
  const found = await ask("/api/search", [["like", `${id}@${Number(start) + 0.01}`], ["top", 5]]).catch(() => null);
  const hit = found?.hits.find((other) => other.id === id && other.start <= Number(start) + 0.01 && other.end > Number(start));
  if (hit) return { ...hit, ...(keyOf(hit) === key ? {} : { start: Number(start) }) };
  say("The moment of this link is not in the library any more.");
  return null;
}

function step(by) {
  const hits = answer?.hits ?? [];
  const number = hits.findIndex((hit) => keyOf(hit) === state.open);
  const next = hits[number + by];
  if (!next) return;
  openMoment(next);
  cardOf(keyOf(next))?.scrollIntoView({ block: "nearest" });
}

const cardOf = (key) => [...list.children].find((card) => card.dataset.key === key);
const focusCard = (key) => (cardOf(key) ?? list.firstElementChild)?.querySelector(".open").focus();

/** Moves the focus among the cards. */
function walk(by) {
  const cards = [...list.children];
  if (!cards.length) return;
  const now = document.activeElement?.closest?.("#hits > li") ?? cardOf(state.open);
  const next = now ? cards[Math.min(cards.length - 1, Math.max(0, cards.indexOf(now) + by))] : cards[0];
  next.querySelector(".open").focus();
  next.scrollIntoView({ block: "nearest" });
}

list.addEventListener("click", (event) => {
  const card = event.target.closest(".card");
  if (card && event.target.closest("button")) openMoment(card.hit);
});
byId("more").addEventListener("click", () => go({ top: Math.min(100, state.top + TOP) }));
byId("home").addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go({ q: "", like: "", open: "", mute: new Set(), top: TOP, ...NO_FILTERS });
});

listenToKeys({ controls, player, walk, step, close: () => openMoment(null) });

// ------------------------------------------------------------------ the server

const silence = follow({
  library: know,
  progress,
  gone() {
    byId("gone").textContent = "The server does not answer. What is shown stays; this page tries again by itself.";
    byId("gone").hidden = false;
    progress(null);
  },
  back() {
    byId("gone").hidden = true;
    if (!owed) return;
    clearTimeout(retry);
    retry = setTimeout(run, 500);
  },
});

function know(next) {
  const changed = about && next.version !== about.version;
  about = next;
  controls.offer(about, state);
  title();
  byId("home").replaceChildren(about.name ? bdi(about.name) : "Search");
  progress(about.indexing);
  if (!state.q && !state.like) rest();
  else if (changed && answer && about.version !== shownVersion) hint();
  else shownVersion ??= about.version;
}

const newer = el("span");
const again = el("button", { class: "quiet" }, "Search again"); // one for all news: it may have the focus
again.addEventListener("click", () => run({ moving: true }));
byId("changed").append(newer, again);

function hint() {
  newer.textContent = `The library changed: ${many(about.files, "video")} now. `;
  byId("changed").hidden = false;
}

let quiet = 0;
function progress(now) {
  clearTimeout(quiet);
  const box = byId("indexing");
  box.hidden = !now || !(now.total > 0);
  if (box.hidden) return;
  const share = Math.min(100, (100 * now.done) / now.total);
  byId("indexed").value = share;
  byId("indexing-left").textContent = `${Math.floor(share)} %${now.seconds_left === null ? "" : `, ${left(now.seconds_left)} left`}`;
  byId("indexing-file").replaceChildren(bdi(now.file ?? ""));
  quiet = setTimeout(() => progress(null), 30_000); // an indexer that was killed tells nothing more
}

function left(seconds) {
  if (seconds < 90) return many(Math.max(1, Math.round(seconds)), "second");
  return seconds < 5400 ? many(Math.round(seconds / 60), "minute") : many(Math.round(seconds / 360) / 10, "hour");
}

new ResizeObserver(([{ target }]) => {
  document.documentElement.style.setProperty("--head", getComputedStyle(target).position === "sticky" ? `${target.offsetHeight}px` : "0px");
}).observe(byId("head"));
ask("/api/library").then(know).catch((trouble) => complain(trouble));
run();
