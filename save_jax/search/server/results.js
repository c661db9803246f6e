// The list of moments: cards, reasons, and how each moved when a sense was muted.
import { bdi, byId, el, isolated, many, place, plain, said, signed, stretch } from "./parts.js";

export const SENSES = { vision: "picture", audio: "sound", speech: "speech" };
const STILL = matchMedia("(prefers-reduced-motion: reduce)");

export const keyOf = (hit) => `${hit.id}@${hit.start}`;
const overlap = (one, other) => one.id === other.id && one.start < other.end && one.end > other.start;

/** Where a hit stood in another ranking, from 0; -1 for nowhere. */
export const placeIn = (hits, hit) => hits.findIndex((other) => overlap(hit, other));

/** Bars of score lost without each sense, on the scale of `most`. */
export function why(hit, most) {
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
export const largest = (hits) => Math.max(0.05, ...hits.flatMap((hit) => Object.values(hit.why).map(Math.abs)));

export function picture(hit, attributes = {}) {
  const image = el("img", { src: hit.thumbnail, alt: "", loading: "lazy", decoding: "async", ...attributes });
  image.addEventListener("error", () => image.replaceWith(el("span", { class: "blind" }, "no picture")), { once: true });
  return image;
}

/** Words of a hit: the line asked for, or what was said. */
export function words(hit) {
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
export function show(list, answer, { before = null, moving = false, judged = true } = {}) {
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
export function showFallen(section, before, hits, muted) {
  const fallen = (before ?? []).map((hit, rank) => [hit, rank]).filter(([hit]) => placeIn(hits, hit) < 0);
  section.hidden = !fallen.length;
  section.querySelector("h2").textContent = `Fell out without ${muted}`;
  section.querySelector("p").textContent = fallen.length ? `${many(fallen.length, "moment")} of the ranking with all senses.` : "";
  section.querySelector("ul").replaceChildren(
    ...fallen.map(([hit, rank]) => el("li", {}, el("span", { class: "soft" }, `was ${rank + 1}`), " ", bdi(hit.name), ` ${stretch(hit)}`)),
  );
}

/** What the library holds and the model senses, before a question. `go(changes)` asks. */
export function welcome(about, go) {
  const senses = about.senses ?? [];
  const length = about.hours >= 1 ? many(Math.round(10 * about.hours) / 10, "hour") : many(Math.round(60 * about.hours), "minute");
  byId("holds").textContent = about.files ? `${many(about.files, "video")}, ${length}, cut into ${many(about.windows, "moment")}.` : "This index holds no video yet.";
  const can = { vision: "sees pictures", audio: "hears sound", speech: "reads what is said" };
  const cannot = { vision: "see pictures", audio: "hear", speech: "read what is said" };
  const does = Object.keys(can).filter((sense) => senses.includes(sense)).map((sense) => can[sense]);
  const lacks = Object.keys(can).filter((sense) => !senses.includes(sense)).map((sense) => cannot[sense]);
  byId("can").textContent = `The model ${sentence(does)}.${lacks.length ? ` It does not ${sentence(lacks, "or")}; “quoted words” are looked up in the transcripts.` : ""}`;
  const news = JSON.stringify([about.folders, about.examples, senses]);
  if (byId("welcome").dataset.of === news) return; // a chip may have the focus
  byId("welcome").dataset.of = news;
  const ways = [
    ["Seen", "what is in the picture, and what it does", senses.includes("vision")],
    ["Heard", "what makes a sound", senses.includes("audio")],
    ["Said", "what somebody talks about", senses.includes("speech")],
    ["Word for word", "“in quotation marks”", true],
  ];
  const hints = ways.filter(([, , there]) => there).map(([what, how]) => el("div", {}, el("h3", {}, what), el("p", { class: "soft" }, how)));
  // Sentences that this very index answers, where it has some.
  const asks = (about.examples ?? []).map((q) => el("div", {}, chip(q, () => go({ q }))));
  byId("ways").replaceChildren(...(asks.length ? asks : hints));
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
