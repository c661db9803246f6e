// What the page's other files share: elements whose content is always text, times, and questions to the server.

// Control characters, direction overrides, lone surrogates, line separators; not the joiners of scripts and emoji.
const HIDDEN = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

export const byId = (id) => document.getElementById(id);

/** Text as it may be shown: what is invisible, or turns the direction of others, is written out. */
export function plain(text) {
  const code = (character) => character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return String(text ?? "").replace(HIDDEN, (character) => `⟨U+${code(character)}⟩`);
}

/** Of words that were said: their line breaks are spaces. */
export const said = (text) => plain(String(text ?? "").replace(/\s+/g, " ").trim());

/** Where no <bdi> can be, as in options and labels. */
export const isolated = (text) => `\u2068${plain(text)}\u2069`;

/** An element; strings inside become text, never markup. */
export function el(tag, attributes = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...inside.filter((part) => part !== null && part !== undefined && part !== ""));
  return made;
}

export const bdi = (text) => el("bdi", {}, plain(text));

/** A path as its parts, each of its own direction. */
export function place(folder) {
  const parts = String(folder).split("/").filter(Boolean);
  return parts.flatMap((part, number) => (number ? [" / ", bdi(part)] : [bdi(part)]));
}

/** Seconds as 0:06, 1:02:03 or 0:06.5. */
export function clock(seconds) {
  const tenths = Math.max(0, Math.round(10 * seconds));
  const whole = Math.floor(tenths / 10);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return `${h ? `${h}:${two(m)}` : m}:${two(s)}${tenths % 10 ? `.${tenths % 10}` : ""}`;
}

/** From where to where, in whole seconds unless it is too short for them. */
export function stretch({ start, end }) {
  const [from, to] = end - start < 2 ? [start, end] : [Math.round(start), Math.round(end)];
  return `${clock(from)} – ${clock(to)}`;
}

/** Of 90, 1:30 or 1:02:03; null for none, NaN for anything else. */
export function seconds(text) {
  const parts = text.trim().split(":");
  if (parts.length === 1 && parts[0] === "") return null;
  if (parts.length > 3 || !parts.every((part) => /^\d{1,6}(\.\d{1,3})?$/.test(part))) return NaN;
  return parts.reduce((sum, part) => 60 * sum + Number(part), 0);
}

/** +1.2, −0.3 or 0.0. */
export function signed(number) {
  const size = Math.abs(number).toFixed(1);
  return size === "0.0" ? size : `${number < 0 ? "−" : "+"}${size}`;
}

export const many = (count, one, more = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : more}`;

/** What went wrong, in words. `away`: no answer at all. `again`: seconds after which to ask again. */
export class Trouble extends Error {
  constructor(message, { away = false, again = 0, status = 0 } = {}) {
    super(message);
    Object.assign(this, { away, again, status });
  }
}

/** The server's answer as an object; throws Trouble. */
export async function ask(path, asked = [], signal = undefined) {
  let answer;
  try {
    const words = new URLSearchParams(asked).toString();
    answer = await fetch(words ? `${path}?${words}` : path, { signal, headers: { Accept: "application/json" } });
    if (answer.ok) return await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("The server does not answer.", { away: true });
  }
  const { detail } = (await answer.json().catch(() => null)) ?? {};
  throw trouble(answer, detail);
}

/** Of an answer and what the server says of it. Only one that says when to ask again is asked again. */
export function trouble({ status, headers }, detail) {
  if (status === 429 || (status === 503 && headers.has("Retry-After"))) {
    const again = Math.min(Math.max(Number(headers.get("Retry-After")) || 2, 1), 60);
    return new Trouble(`The server is busy. Asking again in ${again} s.`, { status, again });
  }
  if (status === 401 || status === 403) {
    return new Trouble("The server does not know this browser. Open the address that it printed, with its token.", { status });
  }
  if (Array.isArray(detail)) detail = detail.map(({ loc, msg }) => `${loc?.at(-1)}: ${msg}`).join("; ");
  if (status === 410) detail = detail || "The file is not there any more.";
  return new Trouble(detail ? plain(detail) : `The server could not do that (status ${status}).`, { status });
}
