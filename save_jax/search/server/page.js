// The page of a library: asks the server, shows what it says, keeps the question in the address.

// ============================================================================
// What the parts below share: elements whose content is always text, times, and questions to the server.

// Control characters, direction overrides, lone surrogates, line separators; not the joiners of scripts and emoji.
const HIDDEN = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

const byId = (id) => document.getElementById(id);

/** Text as it may be shown: what is invisible, or turns the direction of others, is written out. */
function plain(text) {
  const code = (character) => character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return String(text ?? "").replace(HIDDEN, (character) => `⟨U+${code(character)}⟩`);
}

/** Of words that were said: their line breaks are spaces. */
const said = (text) => plain(String(text ?? "").replace(/\s+/g, " ").trim());

/** Where no <bdi> can be, as in options and labels. */
const isolated = (text) => `\u2068${plain(text)}\u2069`;

/** An element; strings inside become text, never markup. */
function el(tag, attributes = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...inside.filter((part) => part !== null && part !== undefined && part !== ""));
  return made;
}

const bdi = (text) => el("bdi", {}, plain(text));

/** A path as its parts, each of its own direction. */
function place(folder) {
  const parts = String(folder).split("/").filter(Boolean);
  return parts.flatMap((part, number) => (number ? [" / ", bdi(part)] : [bdi(part)]));
}

/** Seconds as 0:06, 1:02:03 or 0:06.5. */
function clock(seconds) {
  const tenths = Math.max(0, Math.round(10 * seconds));
  const whole = Math.floor(tenths / 10);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return `${h ? `${h}:${two(m)}` : m}:${two(s)}${tenths % 10 ? `.${tenths % 10}` : ""}`;
}

/** From where to where, in whole seconds unless it is too short for them. */
function stretch({ start, end }) {
  const [from, to] = end - start < 2 ? [start, end] : [Math.round(start), Math.round(end)];
  return `${clock(from)} – ${clock(to)}`;
}

/** Of 90, 1:30 or 1:02:03; null for none, NaN for anything else. */
function seconds(text) {
  const parts = text.trim().split(":");
  if (parts.length === 1 && parts[0] === "") return null;
  if (parts.length > 3 || !parts.every((part) => /^\d{1,6}(\.\d{1,3})?$/.test(part))) return NaN;
  return parts.reduce((sum, part) => 60 * sum + Number(part), 0);
}

/** +1.2, −0.3 or 0.0. */
function signed(number) {
  const size = Math.abs(number).toFixed(1);
  return size === "0.0" ? size : `${number < 0 ? "−" : "+"}${size}`;
}

const many = (count, one, more = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : more}`;

/** What went wrong, in words. `away`: no answer at all. `again`: seconds after which to ask again. */
class Trouble extends Error {
  constructor(message, { away = false, again = 0, status = 0 } = {}) {
    super(message);
    Object.assign(this, { away, again, status });
  }
}

/** The server's answer as an object; throws Trouble. */
async function ask(path, asked = [], signal = undefined) {
  let answer;
  try {
    const words = new URLSearchParams(asked).toString();
    answer = await fetch(words ? `${path}?${words}` : path, { signal, headers: { Accept: "application/json" } });
    if (answer.ok) return await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("The server does not answer.", { away: true });
  }
  const { detail } = await answer.json().catch(() => ({}));
  throw trouble(answer.status, detail, Number(answer.headers.get("Retry-After")));
}

/** Of a status and what the server says of it. */
function trouble(status, detail, wait = 0) {
  if (status === 429 || status === 503) {
    const again = Math.min(Math.max(wait || 2, 1), 60);
    return new Trouble(`The server is busy. Asking again in ${again} s.`, { status, again });
  }
  if (status === 401 || status === 403) {
    return new Trouble("The server does not know this browser. Open the address that it printed, with its token.", { status });
  }
  if (Array.isArray(detail)) detail = detail.map(({ loc, msg }) => `${loc?.at(-1)}: ${msg}`).join("; ");
  if (status === 410) detail = detail || "The file is not there any more.";
  return new Trouble(detail ? plain(detail) : `The server could not do that (status ${status}).`, { status });
}

// ============================================================================
// What is asked, as the page's address holds it: so that it can be shared, and the back button works.
const TOP = 20;
const MOST = 100;
const TEXTS = ["q", "like", "folder", "after", "language", "open"];
const NUMBERS = ["longer", "shorter"];

const NO_FILTERS = { folder: "", after: "", longer: null, shorter: null, language: "" };

/** Of an address: {q, like, folder, after, language, open, longer, shorter, mute, top}. */
function read(search) {
  const given = new URLSearchParams(search);
  const number = (name) => (given.get(name) && Number(given.get(name)) >= 0 ? Number(given.get(name)) : null);
  const state = { mute: new Set(given.getAll("mute")), top: Math.min(MOST, Math.max(1, Math.floor(number("top") ?? TOP))) };
  for (const name of TEXTS) state[name] = given.get(name) ?? "";
  for (const name of NUMBERS) state[name] = number(name);
  if (!/^\d{4}-\d{2}-\d{2}$/.test(state.after)) state.after = "";
  if (state.q) state.like = "";
  return state;
}

/** The address of a state; "/" for none. */
function write(state) {
  const given = new URLSearchParams();
  for (const name of TEXTS) if (state[name] && name !== "open") given.set(name, state[name]);
  for (const name of NUMBERS) if (state[name] !== null) given.set(name, state[name]);
  for (const sense of [...state.mute].sort()) given.append("mute", sense);
  if (state.top !== TOP) given.set("top", state.top);
  if (state.open) given.set("open", state.open);
  const words = given.toString();
  return words ? `/?${words}` : "/";
}

/** The question as the server takes it: pairs of name and value. */
function asked(state, mute = state.mute) {
  const pairs = state.like ? [["like", state.like]] : [["q", state.q]];
  pairs.push(["top", state.top]);
  if (state.folder) pairs.push(["folder", state.folder]);
  if (state.after) pairs.push(["after", new Date(`${state.after}T00:00`).getTime() / 1000]);
  if (state.longer !== null) pairs.push(["longer", state.longer]);
  if (state.shorter !== null) pairs.push(["shorter", state.shorter]);
  if (state.language) pairs.push(["language", state.language]);
  for (const sense of [...mute].sort()) pairs.push(["mute", sense]);
  return pairs;
}

// ============================================================================
// The strip over time: how well each stretch of a file matches, the cut-off, the moment, and the second that plays.

const SVG = "http://www.w3.org/2000/svg";
const WIDE = 1000;
const HIGH = 100;

function drawn(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Puts a strip into `holder`; `seek(second)` is called on a click, a drag and arrow keys. */
function makeStrip(holder, seek) {
  const track = el("div", { class: "track", role: "slider", tabindex: "0", "aria-label": "Second of the file", "aria-valuemin": "0" });
  const told = el("span", { class: "told" });
  const legend = el("span", { class: "legend soft" });
  const axis = el("div", { class: "axis soft", "aria-hidden": "true" });
  holder.append(el("div", { class: "strip-head" }, el("span", {}, "Where the file matches"), told), track, axis, legend);
  let along = { windows: [], duration: 0, cutoff: null };
  let second = 0;

  const window = (at) => along.windows.find(({ from, to }) => at >= from && at < to) ?? along.windows.at(-1);

  function words(at) {
    const here = window(at);
    const judged = here && along.cutoff !== null ? `, ${here.score < along.cutoff ? "below" : "above"} the cut-off` : "";
    return `${clock(at)} of ${clock(along.duration)}${here ? `, score ${here.score.toFixed(1)}${judged}` : ""}`;
  }

  const share = (at) => `${(100 * Math.min(1, Math.max(0, at / (along.duration || 1)))).toFixed(3)}%`;

  /** `found`: the server's answer; `cutoff` null where none applies. */
  function show(found, hit, cutoff) {
    along = { windows: apart(found.windows, found.duration), duration: found.duration, cutoff };
    const picture = drawn("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    const head = el("span", { class: "head" });
    const moment = el("span", { class: "moment" });
    const best = el("span", { class: "best" });
    moment.style.left = share(hit.start);
    moment.style.width = share(hit.end - hit.start);
    best.style.left = share(hit.best);
    draw(picture);
    track.replaceChildren(picture, moment, best, head);
    track.setAttribute("aria-valuemax", String(Math.round(along.duration)));
    axis.replaceChildren(el("span", {}, "0:00"), el("span", {}, clock(along.duration)));
    legend.textContent = `Higher is nearer. Framed: this moment; ▾ its best second.${ofCutoff()}`;
    at(second);
  }

  function ofCutoff() {
    if (along.cutoff === null || !along.windows.length) return "";
    const over = along.windows.filter(({ score }) => score >= along.cutoff).length;
    const cutoff = `the cut-off, ${along.cutoff.toFixed(1)}`;
    if (over === along.windows.length) return ` All of it is above ${cutoff}.`;
    return over ? ` Dashed: ${cutoff}.` : ` All of it is below ${cutoff}.`;
  }

  function draw(picture) {
    const scores = along.windows.map(({ score }) => score);
    if (!scores.length) return;
    const least = 0.04 * Math.max(1, ...scores.map(Math.abs)); // so that noise is no mountain
    const [lowest, highest] = [Math.min(...scores), Math.max(...scores)];
    const spread = Math.max(least, highest - lowest);
    const shown = along.cutoff !== null && along.cutoff > lowest - spread && along.cutoff < highest + spread;
    const low = (shown ? Math.min(lowest, along.cutoff) : lowest) - 0.15 * spread;
    const high = Math.max(shown ? Math.max(highest, along.cutoff) : highest, low + 1.15 * spread);
    const y = (score) => HIGH - (HIGH - 14) * ((score - low) / (high - low));
    const x = (at) => ((at / along.duration) * WIDE).toFixed(2);
    const steps = along.windows.map(({ from, to, score }) => `L${x(from)} ${y(score).toFixed(2)}L${x(to)} ${y(score).toFixed(2)}`);
    const path = `M0 ${HIGH}${steps.join("")}L${WIDE} ${HIGH}Z`;
    picture.append(drawn("path", { d: path, class: "area" }));
    if (along.cutoff === null) return;
    const line = shown ? y(along.cutoff) : along.cutoff > highest ? 0 : HIGH;
    const clip = drawn("clipPath", { id: "above" });
    clip.append(drawn("rect", { x: 0, y: 0, width: WIDE, height: line }));
    picture.append(clip, drawn("path", { d: path, class: "area over", "clip-path": "url(#above)" }));
    if (shown) picture.append(drawn("line", { x1: 0, x2: WIDE, y1: line, y2: line, class: "cutoff" }));
  }

  /** The second that plays. */
  function at(now) {
    second = now;
    track.setAttribute("aria-valuenow", String(Math.round(now)));
    track.setAttribute("aria-valuetext", words(now));
    told.textContent = words(now);
    const head = track.querySelector(".head");
    if (head) head.style.left = share(now);
  }

  function fail(text) {
    along = { windows: [], duration: 0, cutoff: null };
    track.replaceChildren();
    axis.replaceChildren();
    told.textContent = "";
    legend.textContent = text;
  }

  function pointed(event) {
    const box = track.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * along.duration;
  }

  track.addEventListener("pointerdown", (event) => {
    if (event.button || !along.duration) return;
    track.setPointerCapture(event.pointerId);
    seek(pointed(event));
  });
  track.addEventListener("pointermove", (event) => {
    if (!along.duration) return;
    if (track.hasPointerCapture(event.pointerId)) seek(pointed(event));
    else told.textContent = words(pointed(event));
  });
  track.addEventListener("pointerleave", () => along.duration && at(second));
  track.addEventListener("keydown", (event) => {
    const step = along.duration > 120 ? 5 : 1;
    const by = { ArrowRight: step, ArrowUp: step, ArrowLeft: -step, ArrowDown: -step, PageUp: 10 * step, PageDown: -10 * step };
    const to = { Home: 0, End: along.duration }[event.key] ?? (event.key in by ? second + by[event.key] : null);
    if (to === null || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    seek(Math.min(along.duration, Math.max(0, to)));
  });

  return { show, at, fail, focus: () => track.focus() };
}

/** Windows overlap; each is drawn from half way to the one before to half way to the next. */
function apart(windows, duration) {
  const middle = windows.map(({ start, end }) => (start + end) / 2);
  return windows.map(({ score }, number) => ({
    score,
    from: number ? (middle[number - 1] + middle[number]) / 2 : 0,
    to: number + 1 < windows.length ? (middle[number] + middle[number + 1]) / 2 : duration,
  }));
}

// ============================================================================
// The list of moments: cards, reasons, and how each moved when a sense was muted.

const SENSES = { vision: "picture", audio: "sound", speech: "speech" };
const STILL = matchMedia("(prefers-reduced-motion: reduce)");

const keyOf = (hit) => `${hit.id}@${hit.start}`;
const overlap = (one, other) => one.id === other.id && one.start < other.end && one.end > other.start;

/** Where a hit stood in another ranking, from 0; -1 for nowhere. */
const placeIn = (hits, hit) => hits.findIndex((other) => overlap(hit, other));

/** Bars of score lost without each sense, on the scale of `most`. */
function why(hit, most) {
  const rows = Object.keys(SENSES).filter((sense) => sense in hit.why);
  const first = rows.reduce((one, other) => (hit.why[other] > hit.why[one] ? other : one), rows[0]);
  const list = el("ul", { class: "why" });
  for (const sense of rows) {
    const lost = hit.why[sense];
    const main = rows.length > 1 && sense === first && lost >= 0.05;
    const bar = el("i", { class: lost < 0 ? "less" : "" });
    bar.style.setProperty("--size", Math.min(1, Math.abs(lost) / (most || 1)).toFixed(3));
    const word = main ? "most" : lost <= -0.05 ? "against" : "";
    const row = el("li", { class: main ? "main" : "" }, el("span", {}, SENSES[sense]), el("span", { class: "bar", "aria-hidden": "true" }, bar));
    row.append(el("b", {}, signed(lost)), el("small", {}, word));
    list.append(row);
  }
  return list;
}

/** The largest of all bars, so that cards can be compared. */
const largest = (hits) => Math.max(0.05, ...hits.flatMap((hit) => Object.values(hit.why).map(Math.abs)));

function picture(hit, attributes = {}) {
  const image = el("img", { src: hit.thumbnail, alt: "", loading: "lazy", decoding: "async", ...attributes });
  image.addEventListener("error", () => image.replaceWith(el("span", { class: "blind" }, "no picture")), { once: true });
  return image;
}

/** Words of a hit: the line asked for, or what was said. */
function words(hit) {
  if (hit.quoted) return el("p", { class: "words quoted" }, el("span", { class: "tag" }, "said"), " “", el("bdi", {}, said(hit.quoted)), "”");
  if (said(hit.words)) return el("p", { class: "words" }, "“", el("bdi", {}, said(hit.words)), "”");
  return null;
}

function moved(rank, before) {
  if (before === undefined) return null;
  const by = before - rank;
  if (before < 0) return el("span", { class: "moved fresh" }, "new");
  if (!by) return el("span", { class: "moved" }, el("span", { "aria-hidden": "true" }, "="), el("span", { class: "unseen" }, "not moved"));
  const up = by > 0;
  return el("span", { class: `moved ${up ? "up" : "down"}` },
    el("span", { "aria-hidden": "true" }, `${up ? "▲" : "▼"} ${Math.abs(by)}`), el("span", { class: "unseen" }, `${up ? "up" : "down"} ${Math.abs(by)}`));
}

function inside(hit, rank, most, before, below) {
  const when = stretch(hit);
  const shown = el("div", { class: "shown" }, picture(hit), el("span", { class: "stretch" }, when));
  if (!hit.there) shown.append(el("span", { class: "away" }, "offline"));
  const open = el("button", { class: "open" }, bdi(hit.name), el("span", { class: "unseen" }, `, ${when}${hit.there ? "" : ", offline, cannot be played"}`));
  const head = el("div", { class: "title" }, el("span", { class: "rank" }, String(rank + 1)), el("h2", {}, open), moved(rank, before));
  const about = el("p", { class: "about soft" }, el("span", { class: "folder" }, ...place(hit.folder)));
  const facts = el("p", { class: "facts" }, "score ", el("b", {}, hit.score.toFixed(1)));
  if (below && !hit.quoted) facts.append(el("span", { class: "tag" }, "below the cut-off"));
  if (hit.there && hit.plays === "no") facts.append(el("span", { class: "tag" }, "cannot be played here"));
  if (!hit.there) facts.append(el("span", { class: "tag" }, "offline: cannot be played"));
  facts.append(el("span", { class: "tag playing" }, "▶ open"));
  return [shown, el("div", { class: "text" }, head, about, facts, words(hit)), why(hit, most)];
}

/** Shows the hits of an answer in `list`; cards of before move to their new places, if the question is the same.
 * `before`: the ranking with all senses, to tell moves from; null for none. */
function show(list, answer, { before = null, moving = false, judged = true } = {}) {
  const old = new Map([...list.children].map((card) => [card.dataset.key, card]));
  const from = new Map([...old].map(([key, card]) => [key, card.getBoundingClientRect()]));
  const most = largest(answer.hits);
  const focused = document.activeElement?.closest?.("#hits > li")?.dataset.key;
  const cards = answer.hits.map((hit, rank) => {
    const key = keyOf(hit);
    const card = old.get(key) ?? el("li", { class: "card", "data-key": key });
    const below = judged && answer.cutoff !== null && hit.score < answer.cutoff;
    card.replaceChildren(...inside(hit, rank, most, before ? placeIn(before, hit) : undefined, below));
    card.classList.toggle("gone", !hit.there);
    card.hit = hit;
    return card;
  });
  list.replaceChildren(...cards);
  const again = focused && cards.find((card) => card.dataset.key === focused);
  if (again) again.querySelector(".open").focus({ preventScroll: true });
  if (moving && !STILL.matches) for (const card of cards) glide(card, from.get(card.dataset.key));
}

function glide(card, before) {
  const timing = { duration: 420, easing: "cubic-bezier(.2, .7, .2, 1)" };
  if (!before) return card.animate([{ opacity: 0 }, { opacity: 1 }], timing);
  const now = card.getBoundingClientRect();
  const [x, y] = [before.left - now.left, before.top - now.top];
  if (x || y) card.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], timing);
}

/** Moments that the muted senses had carried: in the ranking of before, and not in this one. */
function showFallen(section, before, hits, muted) {
  const fallen = (before ?? []).map((hit, rank) => [hit, rank]).filter(([hit]) => placeIn(hits, hit) < 0);
  section.hidden = !fallen.length;
  section.querySelector("h2").textContent = `Fell out without ${muted}`;
  section.querySelector("p").textContent = fallen.length ? `${many(fallen.length, "moment")} of the ranking with all senses.` : "";
  section.querySelector("ul").replaceChildren(
    ...fallen.map(([hit, rank]) => el("li", {}, el("span", { class: "soft" }, `was ${rank + 1}`), " ", bdi(hit.name), ` ${stretch(hit)}`)),
  );
}

/** What the library holds and the model senses, before a question. `go(changes)` asks. */
function welcome(about, go) {
  const senses = about.senses ?? [];
  const length = about.hours >= 1 ? many(Math.round(10 * about.hours) / 10, "hour") : many(Math.round(60 * about.hours), "minute");
  byId("holds").textContent = about.files ? `${many(about.files, "video")}, ${length}, cut into ${many(about.windows, "moment")}.` : "This index holds no video yet.";
  const can = { vision: "sees pictures", audio: "hears sound", speech: "reads what is said" };
  const cannot = { vision: "see pictures", audio: "hear", speech: "read what is said" };
  const does = Object.keys(can).filter((sense) => senses.includes(sense)).map((sense) => can[sense]);
  const lacks = Object.keys(can).filter((sense) => !senses.includes(sense)).map((sense) => cannot[sense]);
  byId("can").textContent = `The model ${sentence(does)}.${lacks.length ? ` It does not ${sentence(lacks, "or")}; “quoted words” are looked up in the transcripts.` : ""}`;
  const ways = [["Seen", "a red car drives", senses.includes("vision")], ["Heard", "a bell rings", senses.includes("audio")], ["Said", "travel plans", senses.includes("speech")], ["Word for word", '"thank you"', true]];
  byId("ways").replaceChildren(...ways.filter(([, , there]) => there).map(([what, q]) => el("div", {}, el("h3", {}, what), chip(q, () => go({ q })))));
  const folders = (about.folders ?? []).filter((folder) => nameOf(folder));
  byId("places").hidden = !folders.length;
  byId("places").querySelector("ul").replaceChildren(
    ...folders.slice(0, 12).map((folder) => el("li", {}, chip(folder.split("/").at(-1), () => go({ q: nameOf(folder), folder }), folder))),
  );
}

/** The words of a folder's name, as a question. */
const nameOf = (folder) => plain(folder.split("/").at(-1)).replace(/[^\p{L}\p{M}\s'’-]+/gu, " ").trim();

function chip(text, go, folder = "") {
  const button = el("button", { class: "chip", "aria-label": folder ? `Look in ${isolated(folder)}` : null }, bdi(text));
  button.addEventListener("click", go);
  return button;
}

const sentence = (parts, last = "and") => (parts.length > 1 ? `${parts.slice(0, -1).join(", ")} ${last} ${parts.at(-1)}` : parts.join(""));

// ============================================================================
// The fields, filters and switches: filled from what is asked, and telling what of it changed.

const PAUSE = 350; // milliseconds without a key: a search

/** `tell`: typed(q), asked(q), filtered(changes), muted(set). */
function makeControls(tell) {
  const [field, filter, switches] = [byId("q"), byId("filter"), byId("senses")];
  let pause = 0;

  field.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => tell.typed(field.value.trim()), field.value ? PAUSE : 0);
  });
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(pause);
    tell.asked(field.value.trim());
  });
  filter.addEventListener("submit", (event) => event.preventDefault());
  filter.addEventListener("change", () => {
    const changes = lengths();
    const { folder, after, language } = filter.elements;
    if (changes) tell.filtered({ ...changes, folder: folder.value, after: after.value, language: language.value });
  });
  byId("no-filters").addEventListener("click", () => tell.filtered({ ...NO_FILTERS }));

  /** {longer, shorter}; null where one is no length, which is said. */
  function lengths() {
    const wrong = ["longer", "shorter"].filter((name) => {
      const bad = Number.isNaN(seconds(filter.elements[name].value));
      filter.elements[name].setAttribute("aria-invalid", String(bad));
      return bad;
    });
    byId("filter-note").classList.toggle("bad", wrong.length > 0);
    byId("filter-note").textContent = wrong.length
      ? `“${filter.elements[wrong[0]].value}” is no length: give seconds (90) or minutes:seconds (1:30).`
      : "Lengths are those of the whole file: seconds, or minutes:seconds.";
    return wrong.length ? null : { longer: seconds(filter.elements.longer.value), shorter: seconds(filter.elements.shorter.value) };
  }

  /** Shows what is asked. */
  function fill(state) {
    clearTimeout(pause);
    if (field.value.trim() !== state.q) field.value = state.q;
    fillOthers(state);
  }

  function fillOthers(state) {
    const { folder, after, language, longer, shorter } = filter.elements;
    for (const [choice, value] of [[folder, state.folder], [language, state.language]]) {
      if (![...choice.options].some((option) => option.value === value)) choice.append(el("option", { value }, isolated(value)));
      choice.value = value;
    }
    after.value = state.after;
    if (seconds(longer.value) !== state.longer) longer.value = state.longer === null ? "" : clock(state.longer);
    if (seconds(shorter.value) !== state.shorter) shorter.value = state.shorter === null ? "" : clock(state.shorter);
    lengths();
    const count = Object.keys(NO_FILTERS).filter((name) => state[name] !== "" && state[name] !== null).length;
    byId("filter-count").textContent = count ? ` (${count} on)` : "";
    byId("no-filters").hidden = !count;
    const kept = [...switches.querySelectorAll("input")].filter((input) => !state.mute.has(input.value));
    for (const input of switches.querySelectorAll("input")) {
      input.checked = kept.includes(input);
      const last = kept.length === 1 && kept[0] === input;
      input.setAttribute("aria-disabled", String(last));
      input.closest("label").title = last ? "One sense stays on." : "";
    }
  }

  /** What can be chosen in this library. */
  function offer(about, state) {
    const { folder, language } = filter.elements;
    folder.replaceChildren(folder.options[0], ...levels(about.folders ?? []).map((path) => {
      const depth = path.split("/").length - 1;
      return el("option", { value: path }, `${"\u2003".repeat(depth)}${isolated(path.split("/").at(-1))}`);
    }));
    language.replaceChildren(language.options[0], ...(about.languages ?? []).map((name) => el("option", { value: name }, isolated(name))));
    language.closest("label").hidden = !(about.languages ?? []).length && !state.language;
    const senses = Object.keys(SENSES).filter((sense) => about.senses?.includes(sense));
    switches.hidden = senses.length < 2;
    if (senses.join() !== [...switches.querySelectorAll("input")].map(({ value }) => value).join()) {
      switches.querySelectorAll("label").forEach((label) => label.remove());
      for (const sense of senses) {
        const input = el("input", { type: "checkbox", role: "switch", value: sense });
        input.addEventListener("click", (event) => {
          if (input.getAttribute("aria-disabled") === "true") event.preventDefault();
        });
        input.addEventListener("change", muted);
        switches.append(el("label", { class: "switch" }, input, el("span", { class: "knob", "aria-hidden": "true" }), SENSES[sense]));
      }
    }
    fillOthers(state); // not the field: somebody may be typing
  }

  function muted() {
    const off = [...switches.querySelectorAll("input")].filter((input) => !input.checked);
    tell.muted(new Set(off.map(({ value }) => value)));
  }

  /** By its number, as the keys 1, 2, 3 do. */
  const flip = (number) => switches.querySelectorAll("input")[number]?.click();

  return { fill, offer, flip, field };
}

/** Folders and those that hold them, in order: ["a/b"] → ["a", "a/b"]. */
function levels(folders) {
  const every = new Set();
  for (const folder of folders) {
    const parts = folder.split("/").filter(Boolean);
    parts.forEach((_, number) => every.add(parts.slice(0, number + 1).join("/")));
  }
  return [...every].sort((one, other) => one.localeCompare(other));
}

// ============================================================================
// The server's own news: progress of an indexer, a changed library, and whether there is a server at all.

const SOON = 1000; // milliseconds between tries to reach a server that went away
const LATE = 15000;

/** Calls tell.library(about), tell.progress(progress or null), tell.gone() and tell.back(). Returns a function for
 * those that met silence. One connection, and none while the page is hidden: browsers open six to a server. */
function follow(tell) {
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

// ============================================================================
// The keyboard. Keys with Ctrl, Alt or Meta are the browser's; so is all that is typed into a field.

const TYPING = "input:not([type=checkbox]), select, textarea";

/** `walk(±1)` moves in the list, `step(±1)` plays, `close()` closes the player. */
function listenToKeys({ controls, player, walk, step, close }) {
  const keys = byId("keys");
  const { field } = controls;

  const acts = {
    "/": () => {
      if (player.shown() && byId("player").matches(":modal")) close();
      field.focus();
      field.select();
    },
    "?": () => keys.showModal(),
    ArrowDown: () => walk(1),
    ArrowUp: () => walk(-1),
    n: () => step(1),
    p: () => step(-1),
    v: () => player.shown() && player.toFilm(),
    t: () => player.shown() && player.toStrip(),
    s: () => player.shown() && player.similar(),
    c: () => player.shown() && player.copy(),
    1: () => controls.flip(0),
    2: () => controls.flip(1),
    3: () => controls.flip(2),
    Escape: () => player.shown() && close(),
  };

  function inField(event) {
    if (event.key === "ArrowDown") {
      event.preventDefault();
      walk(1);
    } else if (event.key === "Escape") {
      event.preventDefault();
      if (!field.value) return field.blur();
      field.value = "";
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || keys.open) return;
    if (event.target === field) return inField(event);
    if (event.target.matches?.(TYPING) && event.key !== "Escape") return;
    const arrows = event.key.startsWith("Arrow");
    if (arrows && event.target.closest?.("video, #strip")) return;
    if (byId("player").matches(":modal") && (arrows || event.key === "Escape")) return; // the dialog has them
    const act = Object.hasOwn(acts, event.key) ? acts[event.key] : null;
    if (!act) return;
    event.preventDefault();
    act();
  });

  byId("show-keys").addEventListener("click", () => keys.showModal());
  byId("keys-close").addEventListener("click", () => keys.close());
  keys.addEventListener("click", (event) => event.target === keys && keys.close());
}

// ============================================================================
// The player: a moment's film at its second, why it was found, and the strip over time. A panel beside the list where
// there is room, a dialog over it where there is not.

const NARROW = matchMedia("(max-width: 899px)");

/** `tell`: closed(), step(±1), similar(hit, second), address(hit). */
function makePlayer(tell) {
  const [dialog, film, still, screen] = ["player", "film", "still", "screen"].map(byId);
  const strip = makeStrip(byId("strip"), seek);
  let hit = null;
  let begins = 0; // second of the file at which the player's clock reads 0: a preview is a piece of it
  let turn = 0; // of the moment on show, so that late answers are dropped
  let tried = false;

  /** Shows a moment; `asked`: the question's parameters; `cutoff`: null where none applies. */
  function open(next, asked, { cutoff = null, hits = [next], play = true } = {}) {
    const same = hit && hit.id === next.id && hit.start === next.start;
    hit = next;
    if (!same) {
      turn += 1;
      tried = false;
      describe();
      if (playable()) load(hit.media, hit.origin ?? 0, hit.start, play);
      else rest();
    }
    appear();
    byId("player-why").replaceChildren(el("h3", {}, "Why: score lost without it"), why(hit, largest(hits)));
    const number = hits.findIndex((other) => other.id === hit.id && other.start === hit.start);
    byId("previous").disabled = number <= 0;
    byId("next").disabled = number < 0 || number + 1 >= hits.length;
    measure(asked, cutoff);
  }

  async function measure(asked, cutoff) {
    const mine = turn;
    const question = asked.filter(([name]) => ["q", "like", "mute"].includes(name));
    try {
      const along = await ask(`/api/files/${hit.id}/along`, question);
      if (mine === turn && hit) strip.show({ ...along, duration: along.duration ?? hit.duration }, hit, cutoff);
    } catch (trouble) {
      if (mine !== turn) return;
      strip.fail(trouble.message);
      if (trouble.again) setTimeout(() => mine === turn && measure(asked, cutoff), 1000 * trouble.again);
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
    begins = origin;
    film.poster = hit.thumbnail;
    film.setAttribute("aria-label", `Film ${plain(hit.name)}`);
    if (hit.captions) {
      const src = `${hit.captions.split("?")[0]}${origin ? `?start=${origin}` : ""}`;
      film.append(el("track", { kind: "captions", label: "What is said", src, default: true }));
    }
    const mine = turn;
    film.addEventListener("loadedmetadata", () => {
      if (mine !== turn) return;
      film.currentTime = Math.max(0, second - begins);
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
    const start = Math.max(0, Math.floor(10 * second) / 10);
    load(`/preview/${hit.id}?start=${start}`, start, second, true);
  }

  function seek(second) {
    if (!hit || !playable()) return;
    const length = film.duration || 0;
    const isPiece = film.getAttribute("src")?.startsWith("/preview/");
    if (isPiece && (second < begins || second >= begins + length)) loadPiece(second);
    else film.currentTime = Math.max(0, second - begins);
    strip.at(second);
  }

  async function failed() {
    if (!hit || !film.getAttribute("src")) return;
    const mine = turn;
    const source = film.getAttribute("src");
    const answer = await fetch(source, { headers: { Range: "bytes=0-0" } }).catch(() => null);
    if (mine !== turn || !hit || film.getAttribute("src") !== source) return;
    if (answer?.ok && source.startsWith("/media/") && !tried) {
      tried = true;
      loadPiece(hit.start);
      return;
    }
    const { detail } = answer && !answer.ok ? await answer.json().catch(() => ({})) : {};
    const text = !answer ? "The server does not answer." : answer.ok ? "This browser cannot play the file." : trouble(answer.status, detail).message;
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

// ============================================================================
// The page itself: what is asked and what is shown.

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
  state = { ...state, ...changes };
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
  say(trouble && !trouble.away ? trouble.message : "");
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
  if (hit && answer && state.open === keyOf(hit)) player.open(hit, asked(state), { cutoff: judged() ? answer.cutoff : null, hits, play: play || !shown });
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

function hint() {
  const again = el("button", { class: "quiet" }, "Search again");
  again.addEventListener("click", () => run({ moving: true }));
  byId("changed").replaceChildren(`The library changed: ${many(about.files, "video")} now. `, again);
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
