// What is asked, as the page's address holds it: so that it can be shared, and the back button works.
export const TOP = 20;
const MOST = 100;
const TEXTS = ["q", "like", "folder", "after", "language", "open"];
const NUMBERS = ["longer", "shorter"];

export const NO_FILTERS = { folder: "", after: "", longer: null, shorter: null, language: "" };

/** Of an address: {q, like, folder, after, language, open, longer, shorter, mute, top}, and `odd`: an `after` that is
 * no date, which is left out. */
export function read(search) {
  const given = new URLSearchParams(search);
  const number = (name) => (given.get(name) && Number(given.get(name)) >= 0 ? Number(given.get(name)) : null);
  const state = { mute: new Set(given.getAll("mute")), top: Math.min(MOST, Math.max(1, Math.floor(number("top") ?? TOP))) };
  for (const name of TEXTS) state[name] = given.get(name) ?? "";
  for (const name of NUMBERS) state[name] = number(name);
  state.odd = isDate(state.after) ? "" : state.after;
  if (state.odd) state.after = "";
  if (state.q) state.like = "";
  return state;
}

/** Whether it is a day of the calendar, as 2024-02-29; some browsers read 2024-02-30 as March. */
function isDate(text) {
  const day = new Date(`${text}T00:00Z`);
  return /^\d{4}-\d{2}-\d{2}$/.test(text) && !Number.isNaN(day.getTime()) && day.toISOString().startsWith(text);
}

/** The address of a state; "/" for none. */
export function write(state) {
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
export function asked(state, mute = state.mute) {
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
