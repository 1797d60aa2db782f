// The effect of a rule as it is typed, and the browser's time zone for its dates.
import { post } from "./workbench.js";

const DEBOUNCE_MS = 400;

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone) document.cookie = `zone=${encodeURIComponent(zone)}; path=/; samesite=lax; max-age=31536000`;

const form = document.getElementById("rule-form");
let asked = 0;
let timer = 0;

async function preview() {
  const question = ++asked;
  const shown = document.getElementById("preview");
  shown.classList.add("waiting");
  const body = new FormData(form);
  body.set("live", "on");
  const answer = await post("/rules/preview", body).catch(() => null);
  const text = await answer?.text().catch(() => null);
  if (question !== asked) return;
  shown.classList.remove("waiting");
  if (!text) return;
  const page = new DOMParser().parseFromString(text, "text/html");
  for (const piece of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(piece.id);
    // Any other page, such as that of a lost session, is for the buttons to show.
    if (fresh) piece.replaceChildren(...fresh.childNodes);
  }
}

function previewSoon() {
  clearTimeout(timer);
  timer = setTimeout(preview, DEBOUNCE_MS);
}

if (form) {
  form.addEventListener("input", previewSoon);
  form.addEventListener("change", previewSoon);
  for (const field of document.querySelectorAll('[form="rule-form"][name]')) field.addEventListener("change", previewSoon);
}
