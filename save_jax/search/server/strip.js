// The strip over time: how well each stretch of a file matches, the cut-off, the moment, and the second that plays.
import { clock, el } from "./parts.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDE = 1000;
const HIGH = 100;
const PAUSE = 250; // milliseconds without an arrow key: the film seeks

function drawn(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Puts a strip into `holder`; `seek(second)` is called on a click, at the end of a drag, and after arrow
 * keys: each seek of a preview may make the server cut a new film. */
export function makeStrip(holder, seek) {
  const track = el("div", { class: "track", role: "slider", tabindex: "0", "aria-label": "Second of the file", "aria-valuemin": "0" });
  const told = el("span", { class: "told" });
  const legend = el("span", { class: "legend soft" });
  const axis = el("div", { class: "axis soft", "aria-hidden": "true" });
  holder.append(el("div", { class: "strip-head" }, el("span", {}, "Where the file matches"), told), track, axis, legend);
  let along = { windows: [], duration: 0, cutoff: null };
  let second = 0;
  let aimed = null; // second that a drag or keys point at, before the film goes there
  let keyed = 0;

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
    mark(aimed ?? second);
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
    if (aimed === null) mark(now);
  }

  function mark(now) {
    track.setAttribute("aria-valuenow", String(Math.round(now)));
    track.setAttribute("aria-valuetext", words(now));
    told.textContent = words(now);
    const head = track.querySelector(".head");
    if (head) head.style.left = share(now);
  }

  function aim(to) {
    aimed = to;
    mark(to);
  }

  function go() {
    const to = aimed;
    forget();
    if (to === null) return;
    seek(to);
    mark(second); // there, or back where no film can go there
  }

  /** Drops what was pointed at. */
  function forget() {
    clearTimeout(keyed);
    aimed = null;
  }

  function fail(text) {
    forget();
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
    clearTimeout(keyed);
    aim(pointed(event));
  });
  track.addEventListener("pointermove", (event) => {
    if (!along.duration) return;
    if (track.hasPointerCapture(event.pointerId)) aim(pointed(event));
    else told.textContent = words(pointed(event));
  });
  track.addEventListener("pointerup", (event) => track.hasPointerCapture(event.pointerId) && go());
  for (const ended of ["pointercancel", "pointerleave"]) {
    track.addEventListener(ended, (event) => {
      if (ended === "pointercancel") forget();
      if (along.duration) mark(aimed ?? second);
    });
  }
  track.addEventListener("keydown", (event) => {
    const step = along.duration > 120 ? 5 : 1;
    const by = { ArrowRight: step, ArrowUp: step, ArrowLeft: -step, ArrowDown: -step, PageUp: 10 * step, PageDown: -10 * step };
    const to = { Home: 0, End: along.duration }[event.key] ?? (event.key in by ? (aimed ?? second) + by[event.key] : null);
    if (to === null || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    clearTimeout(keyed);
    if (!along.duration) return;
    aim(Math.min(along.duration, Math.max(0, to)));
    keyed = setTimeout(go, PAUSE);
  });

  return { show, at, fail, forget, focus: () => track.focus() };
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
