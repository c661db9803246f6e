// The keyboard. Keys with Ctrl, Alt or Meta are the browser's; so is all that is typed into a field.
import { byId } from "./parts.js";

const TYPING = "input:not([type=checkbox]), select, textarea";

/** `walk(±1)` moves in the list, `step(±1)` plays, `close()` closes the player. */
export function listenToKeys({ controls, player, walk, step, close }) {
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
