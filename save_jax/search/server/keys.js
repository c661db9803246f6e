// The keyboard. Keys with Ctrl, Alt or Meta are the browser's; so is all that is typed into a field.
import { byId } from "./parts.js";

const KEPT = "save-jax-keys"; // in the browser's storage, which may be forbidden
const TYPING = "input:not([type=checkbox]), select, textarea";

/** `walk(±1)` moves in the list, `step(±1)` plays, `close()` closes the player. */
export function listenToKeys({ controls, player, walk, step, close }) {
  const keys = byId("keys");
  const characters = byId("characters"); // WCAG 2.1.4: who speaks to the machine can turn them off
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
    if (event.key.length === 1 && !characters.checked) return;
    const act = Object.hasOwn(acts, event.key) ? acts[event.key] : null;
    if (!act) return;
    event.preventDefault();
    act();
  });

  function fewer() {
    document.body.classList.toggle("fewer", !characters.checked);
  }

  try {
    characters.checked = localStorage.getItem(KEPT) !== "off";
  } catch { /* they are on */ }
  fewer();
  characters.addEventListener("change", () => {
    fewer();
    try {
      localStorage.setItem(KEPT, characters.checked ? "on" : "off");
    } catch { /* it lasts as long as the page */ }
  });
  byId("show-keys").addEventListener("click", () => keys.showModal());
  byId("keys-close").addEventListener("click", () => keys.close());
  keys.addEventListener("click", (event) => event.target === keys && keys.close());
}
