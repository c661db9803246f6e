// The fields, filters and switches: filled from what is asked, and telling what of it changed.
import { NO_FILTERS } from "./address.js";
import { byId, clock, el, isolated, seconds } from "./parts.js";
import { SENSES } from "./results.js";

const PAUSE = 350; // milliseconds without a key: a search

/** `tell`: typed(q), asked(q), filtered(changes), muted(set). */
export function makeControls(tell) {
  const [field, filter, switches] = [byId("q"), byId("filter"), byId("senses")];
  let pause = 0;
  let offered = ""; // what the options were made of

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

  /** What can be chosen in this library. Options stay while the library's news changes none: one may have the focus. */
  function offer(about, state) {
    const news = JSON.stringify([about.folders, about.languages, about.senses]);
    if (news !== offered) makeOptions(about, state);
    offered = news;
    fillOthers(state); // not the field: somebody may be typing
  }

  function makeOptions(about, state) {
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
